"""Results over the number of nodes and over the reduction: Fig. 4, from the table of a sweep."""

import csv
import math
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

# "k16", "nodes_16", "reduction=4": what is varied, and the value.
ROW = re.compile(r"(?P<what>.*?)[_=-]?(?P<value>\d+(\.\d+)?)")
SEED = re.compile(r"seed_?\d+")
MEANINGS = {"k": "nodes K", "nodes": "nodes K", "r": "reduction", "reduction": "reduction"}
# What is drawn if nothing is asked for: the end of a metric's name.
USUAL = ("mIoU", "IoU", "top1", "AP", "PQ")


class Point(NamedTuple):
    """The result of a row.

    Attributes:
        row: its name.
        values: one for each seed, in the order of the seeds.
        paper: the paper's number; NaN for none.
    """

    row: str
    values: tuple[float, ...]
    paper: float = math.nan

    @property
    def mean(self) -> float:
        """The mean over the seeds; NaN without any."""
        return fmean(self.values) if self.values else math.nan

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds (n - 1); 0 for one seed."""
        return stdev(self.values) if len(self.values) > 1 else 0.0


def read_sweep_table(path: Path, *, metric: str = "", dataset: str = "") -> tuple[str, list[Point]]:
    """Read the rows of a sweep, in their order.

    Args:
        path: the table.csv that `srnet sweep` writes (a column for each seed), or a CSV with the
            columns row, seed, metric and value. A folder stands for its table.csv.
        metric: as in the table; by default the first that ends in mIoU, IoU, top1, AP or PQ.
        dataset: as in the table; by default the first.

    Returns:
        A title (the metric and the dataset) and the rows.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it has other columns, no such metric or dataset, or a value that is no number.
    """
    file = path / "table.csv" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: give the table.csv of 'srnet sweep'")
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        lines, columns = list(reader), list(reader.fieldnames or [])
    if columns and not lines:
        raise ValueError(f"{file} holds no row: has a run of the sweep ended?")
    seeds = [name for name in columns if name and SEED.fullmatch(name)]
    long = {"seed", "value"} <= set(columns)
    if not {"row", "metric"} <= set(columns) or not (seeds or long):
        raise ValueError(
            f"{file} has the columns {', '.join(map(str, columns)) or 'none'}: needed are row, "
            "metric, and seed1, seed2 and so on (or seed and value)"
        )
    metric = _choose(file, "metric", [line["metric"] for line in lines], metric)
    lines = [line for line in lines if line["metric"] == metric]
    if "dataset" in columns:
        dataset = _choose(file, "dataset", [line["dataset"] for line in lines], dataset)
        lines = [line for line in lines if line["dataset"] == dataset]
    found: dict[str, Point] = {}
    for line in lines:
        values = [line["value"]] if long else [line[name] for name in seeds]
        numbers = tuple(_number(file, line["row"], text) for text in values if text)
        paper = line.get("paper")
        before = found[line["row"]].values if line["row"] in found else ()
        known = _number(file, line["row"], paper) if paper else math.nan
        found[line["row"]] = Point(line["row"], (*before, *numbers), known)
    title = f"{metric}, {dataset}" if dataset else metric
    return title, [point for point in found.values() if point.values]


def _choose(file: Path, what: str, names: list[str], wanted: str) -> str:
    """A metric or dataset of the table: the one that is wanted, or the usual one."""
    known = list(dict.fromkeys(names))
    if wanted:
        if wanted not in known:
            raise ValueError(f"--{what} {wanted}: {file} has {', '.join(known)}")
        return wanted
    usual = [n for end in USUAL for n in known if n.rpartition("/")[2] == end]
    return (usual or known)[0]


def _number(file: Path, row: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{file}: the row {row} has the value {text!r}, not a number") from None


def group_points(points: list[Point]) -> tuple[dict[str, list[tuple[float, Point]]], list[Point]]:
    """Sort rows into curves by what their name begins with, and its number by size.

    Returns:
        For each beginning, as "nodes", values and rows; and the rows whose name ends in no number.

    Raises:
        ValueError: no row has a number at the end of its name.
    """
    groups: dict[str, list[tuple[float, Point]]] = {}
    others = []
    for point in points:
        match = ROW.fullmatch(point.row)
        if match:
            groups.setdefault(match["what"], []).append((float(match["value"]), point))
        else:
            others.append(point)
    if not groups:
        names = ", ".join(p.row for p in points) or "none"
        raise ValueError(f"no row of the sweep ends in a number, as k16 and r2 do: {names}")
    return {name: sorted(group) for name, group in groups.items()}, others


def draw_sweep(title: str, points: list[Point]) -> Figure:
    """Draw a panel for what is varied: means with spreads, and a dot for each seed.

    Rows whose name ends in no number, such as a baseline, are horizontal lines in all panels.
    """
    groups, others = group_points(points)
    figure = Figure(figsize=(5.2 * len(groups), 4.0), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, (letter, (name, group)) in zip(
        panels, zip("abcdefghijklmnop", groups.items(), strict=False), strict=False
    ):
        x = [value for value, _ in group]
        for value, point in group:
            own = [value] * len(point.values)
            axes.plot(own, point.values, ".", color="tab:orange", markersize=6, zorder=4)
        means, spreads = zip(*((p.mean, p.spread) for _, p in group), strict=True)
        axes.errorbar(x, means, spreads, marker="o", capsize=3, label="mean and spread", zorder=3)
        paper = [p.paper for _, p in group]
        if not all(map(math.isnan, paper)):
            axes.plot(x, paper, "s--", color="tab:green", label="paper")
        for number, point in enumerate(others):
            label = f"{point.row}: {point.mean:.2f}"
            axes.axhline(point.mean, linestyle=":", color=f"C{number + 3}", label=label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xticks(x)
        axes.set(xlabel=MEANINGS.get(name.lower(), name), title=f"({letter})")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel(title)
    return figure


def points_table(points: list[Point]) -> tuple[list[str], list[list]]:
    """The numbers that :func:`draw_sweep` draws: the fields and the rows of a CSV."""
    rows = []
    for point in points:
        match = ROW.fullmatch(point.row)
        varied = [match["what"], match["value"]] if match else ["", ""]
        numbers = (point.mean, point.spread, min(point.values), max(point.values))
        cells = [f"{number:.4f}" for number in numbers]
        rows.append([point.row, *varied, len(point.values), *cells])
    return ["row", "varied", "value", "n", "mean", "spread", "lowest", "highest"], rows
