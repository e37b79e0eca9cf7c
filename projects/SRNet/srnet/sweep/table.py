"""The table of a sweep in Markdown and CSV: means, spreads, paired tests, the paper, classes."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from srnet.data.paths import written_to

from .definition import Row, Sweep
from .results import Results, Values
from .statistics import Comparison, compare, needed_ratio, summarise

TABLE, CLASSES = "table.csv", "per_class.csv"
MANY_CLASSES = 20  # of more, only those that change most are printed
EXTREMES = 3


def to_markdown(sweep: Sweep, results: Results, rows: Sequence[Row], total: int) -> str:
    """The tables as Markdown: one for each dataset and metric, then those of the classes.

    Args:
        sweep: the sweep.
        results: what its runs have written.
        rows: those to show.
        total: how many runs they have.
    """
    blocks = [f"# {sweep.title}"]
    if sweep.note:
        blocks.append(sweep.note)
    done = sum(run.row in rows for run in results.ended)
    blocks.append(f"{done} of {total} runs have ended. Metrics in %.")
    blocks += [f"- {text}" for text in results.left_out]
    for (dataset, metric), values in results.metrics.items():
        blocks += [f"## {metric}, {dataset}", _metric_table(sweep, rows, metric, values)]
    if results.metrics:
        blocks.append(_about_the_test(rows, results))
    for (dataset, metric), classes in results.classes.items():
        shares = results.shares.get(dataset, {})
        for reference in dict.fromkeys(row.reference for row in rows if row.reference):
            chosen = [row for row in rows if row.reference == reference and row.name != reference]
            text = _class_table(chosen, reference, classes, shares)
            if text:
                blocks += [f"## Classes: {metric}, {dataset}, less {reference}", text]
    return "\n\n".join(blocks) + "\n"


def _metric_table(sweep: Sweep, rows: Sequence[Row], metric: str, values: Values) -> str:
    seeds = sorted({seed for of_row in values.values() for seed in of_row})
    paper = any(metric in row.paper for row in rows)
    several = len({row.reference for row in rows}) > 1
    header = ["row", *(f"seed {seed}" for seed in seeds), "mean", "spread"]
    header += ["difference", "its spread", "p", "n"]
    header += ["to"] * several + ["paper", "paper's difference"] * paper
    lines = []
    for row in rows:
        own = values.get(row.name, {})
        if not own and metric not in row.paper:
            continue
        _, mean, spread = summarise(own) if own else (0, math.nan, math.nan)
        line: list[Any] = [row.name, *(_number(own.get(seed)) for seed in seeds)]
        line += [_number(mean), _number(spread)]
        compared = _compare(row, values)
        if compared is None:
            line += ["", "", "", ""]
        else:
            line += [_number(compared.difference, sign=True), _number(compared.spread)]
            line += [_probability(compared.p), compared.n]
        line += [row.reference if compared else ""] * several
        if paper:
            line += [_number(row.paper.get(metric))]
            line += [_number(_paper_difference(sweep, row, metric), sign=True)]
        lines.append(line)
    return _markdown(header, lines)


def _compare(row: Row, values: Values) -> Comparison | None:
    """A row less its reference; None for the reference itself and where there is nothing yet."""
    if not row.reference or row.reference == row.name:
        return None
    return compare(values.get(row.name, {}), values.get(row.reference, {}))


def _paper_difference(sweep: Sweep, row: Row, metric: str) -> float:
    if not row.reference or row.reference == row.name:
        return math.nan
    reference = sweep.row(row.reference).paper
    return row.paper.get(metric, math.nan) - reference.get(metric, math.nan)


def _about_the_test(rows: Sequence[Row], results: Results) -> str:
    """What the numbers are, and how little a few seeds support."""
    lines = ["Spread: the standard deviation over the seeds (n - 1)."]
    found = [_compare(row, values) for values in results.metrics.values() for row in rows]
    tested = [comparison for comparison in found if comparison and comparison.n > 1]
    if tested:
        n = max(comparison.n for comparison in tested)
        ratio = needed_ratio(n)
        lines.append(
            "Difference: the mean over the seeds that a row and its reference have in common. p: "
            f"two-sided paired t-test over these seeds (scipy.stats.ttest_rel). With n = {n}, p is "
            f"below 0.05 only where a difference is more than {ratio:.1f} times its spread, and "
            f"{len(tested)} differences are tested here, with no correction for their number"
            + (": a few seeds support little." if n < 6 else ".")
        )
    return " ".join(lines)


def _class_table(
    rows: Sequence[Row], reference: str, classes: dict[str, Values], shares: dict[str, float]
) -> str:
    """Differences of the classes, the classes with most pixels first; "" without any."""
    gains = {
        label: {row.name: compare(v.get(row.name, {}), v.get(reference, {})) for row in rows}
        for label, v in classes.items()
    }
    shown = [row.name for row in rows if any(gain[row.name] for gain in gains.values())]
    if not shown:
        return ""
    labels = sorted(gains, key=lambda label: -shares.get(label, 0.0))
    tables, extremes = [], []
    if len(labels) <= MANY_CLASSES:
        header = ["class", *["pixels"] * bool(shares), reference, *shown]
        lines = []
        for label in labels:
            base = classes[label].get(reference, {})
            line: list[Any] = [label, *[_number(shares.get(label))] * bool(shares)]
            line.append(_number(summarise(base).mean if base else None))
            line += [_gain(gains[label][name]) for name in shown]
            lines.append(line)
        tables.append(_markdown(header, lines))
    for name in shown:
        compared = {label: gain[name] for label, gain in gains.items()}
        known = [(found.difference, label) for label, found in compared.items() if found]
        known.sort(key=lambda pair: -pair[0])
        most = ", ".join(f"{label} {value:+.1f}" for value, label in known[:EXTREMES])
        least = ", ".join(f"{label} {value:+.1f}" for value, label in known[: -EXTREMES - 1 : -1])
        extremes.append(f"- {name}: most {most}; least {least}")
    return "\n\n".join([*tables, "\n".join(extremes)])


def write_csv(sweep: Sweep, results: Results, rows: Sequence[Row], folder: Path) -> None:
    """Write table.csv, a line for each row and metric, and per_class.csv, for each class too.

    Raises:
        OSError: a file cannot be written; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seeds = sorted({run.seed for run in results.ended})
    lines = [
        {"row": row.name, "dataset": dataset, "metric": metric, **numbers}
        | {"paper": row.paper.get(metric)}
        | {"paper_difference": _paper_difference(sweep, row, metric)}
        for (dataset, metric), values in results.metrics.items()
        for row, numbers in _numbers(rows, values, seeds)
    ]
    _write(folder / TABLE, lines)
    lines = [
        {"row": row.name, "dataset": dataset, "metric": metric, "class": label}
        | {"pixels": results.shares.get(dataset, {}).get(label)}
        | numbers
        for (dataset, metric), classes in results.classes.items()
        for label, values in classes.items()
        for row, numbers in _numbers(rows, values, seeds)
    ]
    _write(folder / CLASSES, lines)


def _numbers(
    rows: Sequence[Row], values: Values, seeds: Sequence[int]
) -> Iterator[tuple[Row, dict[str, Any]]]:
    for row in rows:
        own = values.get(row.name)
        if not own:
            continue
        compared = _compare(row, values)
        numbers: dict[str, Any] = {f"seed{seed}": own.get(seed) for seed in seeds}
        numbers |= summarise(own)._asdict()
        numbers["reference"] = row.reference if compared else ""
        names = ("pairs", "difference", "difference_spread", "t", "p")
        numbers |= dict(zip(names, compared or [None] * len(names), strict=True))
        yield row, numbers


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    with written_to(path), path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]) if lines else ["row"])
        writer.writeheader()
        for line in lines:
            writer.writerow({k: "" if v is None or v != v else v for k, v in line.items()})


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def _gain(compared: Comparison | None) -> str:
    return "" if compared is None else _number(compared.difference, sign=True)


def _probability(p: float) -> str:
    if math.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _markdown(header: list[str], lines: list[list[Any]]) -> str:
    align = ["left"] + ["right"] * (len(header) - 1)
    return tabulate(lines, header, "pipe", colalign=align, disable_numparse=True)
