"""The curves of one or several trainings in one figure, from their `metrics.json`."""

import csv
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import color_sequences
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, StrMethodFormatter

from srnet.evaluation.metrics_file import read_lines
from srnet.evaluation.metrics_table import TRAINING

# A curve: iterations and values, ordered by iteration.
Curve = tuple[np.ndarray, np.ndarray]
Run = dict[str, Curve]

FORMATS = (".png", ".pdf", ".svg", ".csv")
# What is drawn if nothing is asked for: the loss, and the metrics that papers report.
USUAL = (
    "total_loss",
    "sem_seg/mIoU",
    "sem_seg/IoU",
    "bbox/AP",
    "segm/AP",
    "keypoints/AP",
    "panoptic_seg/PQ",
    "classification/top1",
)
VALIDATION = "validation/"


def read_run(path: Path) -> Run:
    """Read the curves of a training.

    Args:
        path: its OUTPUT_DIR, or a `metrics.json`.

    Returns:
        The curves by name. Values that are no numbers are left out; of several lines of one
        iteration the last counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no metrics.
    """
    file = path / "metrics.json" if path.is_dir() or not path.exists() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: give the OUTPUT_DIR of a training")
    values: dict[str, dict[int, float]] = {}
    for _, record in read_lines(file):
        for name, value in record.items():
            if name != "iteration" and type(value) in (int, float) and np.isfinite(value):
                values.setdefault(name, {})[record["iteration"]] = float(value)
    if not values:
        raise ValueError(f"{file} holds no metrics of a training")
    return {
        name: (np.array(sorted(found)), np.array([found[i] for i in sorted(found)]))
        for name, found in values.items()
    }


def name_runs(paths: Sequence[Path]) -> list[str]:
    """Name runs by the shortest ends of their folders that tell them apart."""
    folders = [(p.parent if p.is_file() else p).absolute().parts for p in paths]
    for depth in range(1, max(map(len, folders)) + 1):
        names = ["/".join(parts[-depth:]) for parts in folders]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]


def choose_metrics(runs: Mapping[str, Run], wanted: Sequence[str]) -> list[str]:
    """The metrics to draw: those that are wanted, or the usual ones that the runs have.

    Raises:
        ValueError: no run has a metric that is wanted; the message lists the nearest.
    """
    known = list(dict.fromkeys(name for run in runs.values() for name in run))
    if not wanted:
        # Every training has a loss; a file of something else has what it has.
        return [name for name in USUAL if name in known] or known[:1]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
            raise ValueError(f"--metric {name}: none of the runs has it: {hint}")
    return list(dict.fromkeys(wanted))


def is_evaluation(name: str) -> bool:
    """Whether a metric is an evaluation's, with few values, and not the training's."""
    return "/" in name and name.partition("/")[0] not in TRAINING


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """TensorBoard's smoothing: a moving average that forgets exponentially, without a bias.

    Args:
        values: (N,).
        weight: what is kept of the average at each value; 0 for no smoothing.
    """
    result, average, total = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        average = weight * average + (1 - weight) * value
        total = weight * total + (1 - weight)
        result[i] = average / total
    return result


def draw_curves(
    runs: Mapping[str, Run], metrics: Sequence[str], *, weight: float = 0.0, log: bool = False
) -> Figure:
    """Draw a panel for each metric, with a curve for each run.

    The loss that was measured on other images, `validation/LOSS`, is a dashed curve in the panel of
    `LOSS`. The curves of a training are smoothed, over their faint values; evaluations are dots.

    Args:
        runs: names and curves.
        metrics: those to draw.
        weight: of :func:`smooth`.
        log: a logarithmic axis for what the training records, where all values are above 0.
    """
    columns = min(len(metrics), 2)
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.0 * lines + 0.3), dpi=150, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    colors = color_sequences["tab10" if len(runs) <= 10 else "tab20"]
    for axes, metric in zip(grid.flat, metrics, strict=False):
        drawn = []
        for number, (name, run) in enumerate(runs.items()):
            color = colors[number % len(colors)]
            for key, label, style in (
                (metric, name, "-"),
                (VALIDATION + metric, f"{name}, validation", "--"),
            ):
                if key not in run:
                    continue
                x, y = run[key]
                drawn.append(y)
                if is_evaluation(key) or key.startswith(VALIDATION):
                    axes.plot(x, y, style, color=color, label=label, marker="o", markersize=3)
                elif weight and key != "lr":
                    axes.plot(x, y, color=color, alpha=0.25, linewidth=0.8)
                    axes.plot(x, smooth(y, weight), style, color=color, label=label)
                else:
                    axes.plot(x, y, style, color=color, label=label, linewidth=1.2)
        axes.set(title=metric, xlabel="iteration")
        axes.grid(alpha=0.3)
        if log and not is_evaluation(metric) and all((y > 0).all() for y in drawn):
            axes.set_yscale("log")
            _label_plainly(axes.yaxis)
        if len(axes.get_lines()) > 1 or len(runs) > 1:
            axes.legend(fontsize=8, framealpha=0.6)
    for axes in grid.flat[len(metrics) :]:
        axes.axis("off")
    return figure


def _label_plainly(axis: Axis) -> None:
    """Label a logarithmic axis with 0.2, 0.5, 1 and not with powers of ten."""
    low, high = axis.get_view_interval()
    steps = "235" if high < 100 * low else ""
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(
        FuncFormatter(lambda x, place: f"{x:g}" if f"{x:e}"[0] in steps else "")
    )


def write_csv(path: Path, runs: Mapping[str, Run], metrics: Sequence[str]) -> None:
    """Write the values that :func:`draw_curves` draws, unsmoothed, a line each."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "metric", "iteration", "value"])
        for metric in metrics:
            for name, run in runs.items():
                for key in (metric, VALIDATION + metric):
                    pairs = zip(*run.get(key, ((), ())), strict=True)
                    writer.writerows([name, key, int(x), float(y)] for x, y in pairs)


def plot_runs(
    paths: Sequence[Path],
    outputs: Sequence[Path],
    *,
    metrics: Sequence[str] = (),
    weight: float = 0.0,
    log: bool = False,
) -> list[str]:
    """Draw the curves of trainings into files.

    Args:
        paths: folders of trainings, or their `metrics.json`.
        outputs: files; the suffix says the format, .png, .pdf, .svg or .csv.
        metrics: names as in `metrics.json`; the usual ones by default.
        weight: of the smoothing, from 0 on and below 1.
        log: a logarithmic axis for what the training records.

    Returns:
        The metrics that were drawn.

    Raises:
        FileNotFoundError: a training is missing, or the folder of an output.
        ValueError: a wrong weight, suffix or metric.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"--smooth {weight:g} must be 0 or more and below 1")
    for output in outputs:
        if output.suffix.lower() not in FORMATS:
            raise ValueError(f"--output {output}: the suffix must be one of {', '.join(FORMATS)}")
        if not output.absolute().parent.is_dir():
            raise FileNotFoundError(f"--output {output}: there is no folder {output.parent}")
    names = name_runs(paths)
    runs = {name: read_run(path) for name, path in zip(names, paths, strict=True)}
    chosen = choose_metrics(runs, metrics)
    for output in outputs:
        if output.suffix.lower() == ".csv":
            write_csv(output, runs, chosen)
        else:
            draw_curves(runs, chosen, weight=weight, log=log).savefig(os.fspath(output))
    return chosen
