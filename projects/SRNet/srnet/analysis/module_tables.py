"""Measurements of the context modules as a table, a CSV file and a plot."""

import csv
import math
from pathlib import Path

from tabulate import tabulate

from srnet.data.paths import written_to

from .module_benchmark import FIELDS, REFERENCE


def to_markdown(rows: list[dict], reference: str = REFERENCE) -> str:
    """Format the rows, whose ratios are to `reference`; one that ran out of memory says so."""
    header = ["module", "size", "pass", "median (ms)", "quartiles (ms)", "fastest (ms)"]
    header += [f"to {reference}", "memory (MB)"]
    table = []
    for row in rows:
        cells = [row["module"], row["size"], row["pass"]]
        if row["median"] is None:
            cells += ["out of memory", "", "", "", ""]
        else:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
            cells += [f"{row['median']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}"]
            cells += [f"{row['fastest']:.1f}", ratio, f"{row['memory']:.0f}"]
        table.append(cells)
    align = ("left", "center", "left", "right", "center", "right", "right", "right")
    return tabulate(table, header, "pipe", colalign=align, disable_numparse=True) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    """Draw the forward time over the positions of the map, a line a module, as Fig. 5(a).

    Both axes are logarithmic: a module whose cost grows with the positions is a line of slope 1.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained", dpi=150)
    axes = figure.subplots()
    sizes = {size: math.prod(map(int, size.split(" x "))) for size in (row["size"] for row in rows)}
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row["pass"] == "forward" and row["median"] is not None:
            lines.setdefault(row["module"], []).append((sizes[row["size"]], row["median"]))
    styles = ("-", "--", ":")
    for i, (name, points) in enumerate(lines.items()):
        line = axes.plot(
            *zip(*sorted(points), strict=True), styles[i // 10], marker="o", label=name
        )[0]
        if name == REFERENCE:
            line.set(linewidth=3, color="black")
    axes.set(xlabel="map (height x width)", ylabel="forward (ms)", xscale="log", yscale="log")
    axes.set_xticks(list(sizes.values()), list(sizes))
    axes.minorticks_off()
    figure.legend(fontsize="small", loc="outside right upper", handlelength=4)
    axes.grid(alpha=0.3)
    with written_to(path):
        figure.savefig(path)


def write_csv(rows: list[dict], path: Path) -> None:
    """Write the rows; times are empty where the memory did not suffice."""
    with written_to(path), path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
