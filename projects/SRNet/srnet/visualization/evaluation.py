"""Pictures of an evaluation: the confusion matrix, and the classes as bars against another run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from srnet.data.paths import inside
from srnet.evaluation.results import Confusion, Results, of_classes, read_confusion, read_results

WITH_NUMBERS = 20  # classes up to which the shares are written into the matrix
PAIRS = 10  # that are listed


def draw_confusion(confusion: Confusion, pairs: Sequence[tuple[str, str, float]]) -> Figure:
    """Draw the matrix, in % of the true class's pixels, with the most confused pairs beside it."""
    names, shares = confusion.classes, 100 * confusion.shares()
    side = float(np.clip(0.5 * len(names), 5, 24))
    figure = Figure(figsize=(side + 4.5, side + 1.2), dpi=150, layout="constrained")
    axes, text = figure.subplots(1, 2, width_ratios=[side, 3])
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(title=f"{confusion.dataset}: % of the true class", xlabel="prediction", ylabel="truth")
    size = 9 if len(names) <= 2 * WITH_NUMBERS else 5
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    if len(names) <= WITH_NUMBERS:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.5:
                color = "white" if share > 60 else "black"
                axes.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    text.axis("off")
    lines = [f"{100 * share:5.1f} %  {true} as {wrong}" for true, wrong, share in pairs]
    listing = "\n".join(["Most confused", "", *(lines or ["none"])])
    text.text(0, 0.9, listing, va="top", family="monospace", fontsize=9, transform=text.transAxes)
    return figure


def draw_bars(
    title: str, own: Mapping[str, float], name: str, other: Mapping[str, float] | None, rival: str
) -> Figure:
    """Draw a bar for each class, and those of another run beside them.

    Args:
        title: what the values are.
        own: values (%) by class, in the order from top to bottom.
        name: of this run.
        other: the other run's; None for none.
        rival: the name of the other run.
    """
    classes = list(own)
    figure = Figure(figsize=(8, 1.6 + 0.36 * len(classes)), dpi=150, layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(classes))
    height = 0.38 if other is not None else 0.7
    shift = height / 2 if other is not None else 0
    axes.barh(places - shift, list(own.values()), height, label=name, color="tab:orange")
    if other is not None:
        values = [other.get(c, np.nan) for c in classes]
        axes.barh(places + shift, values, height, label=rival, color="tab:blue")
    for place, c in enumerate(classes):
        label, reach = f"{own[c]:.1f}", own[c]
        if other is not None and c in other:
            label, reach = f"{own[c]:.1f} ({own[c] - other[c]:+.1f})", max(own[c], other[c])
        axes.text(reach + 1, place, label, va="center", fontsize=8)
    axes.set_yticks(places, classes)
    axes.set(xlim=(0, 118), ylim=(len(classes) - 0.4, -0.6), title=title, xlabel="%")
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    if other is not None:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def plot_evaluation(output_dir: str, results: Results, against: Path | None = None) -> str:
    """Draw an evaluation that has ended, into `OUTPUT_DIR/inference`.

    Args:
        output_dir: that of the evaluation.
        results: what it returned, by dataset.
        against: the OUTPUT_DIR of another run, for the bars.

    Returns:
        What was drawn, and the pairs that are most confused, as text.

    Raises:
        FileNotFoundError: the other run has no results.
        ValueError: it has none of these datasets.
    """
    folder = os.path.join(output_dir, "inference")
    os.makedirs(folder, exist_ok=True)
    lines: list[str] = []
    for dataset, tasks in results.items():
        confusion = read_confusion(folder, dataset) if "sem_seg" in tasks else None
        if confusion is not None:
            pairs = confusion.most_confused(PAIRS)
            path = str(inside(folder, f"{dataset}_confusion.png"))
            draw_confusion(confusion, pairs).savefig(path)
            lines.append(f"{path}; most confused:")
            lines += [f"  {100 * share:.1f} % of {a} as {b}" for a, b, share in pairs]
        rivals = of_classes(read_results(against, dataset)) if against is not None else {}
        name = os.path.basename(os.path.abspath(output_dir))
        rival = os.path.basename(os.path.abspath(against)) if against is not None else ""
        if rival == name and against is not None:
            name, rival = output_dir, str(against)
        for metric, own in of_classes(tasks).items():
            task, _, short = metric.partition("/")
            path = str(inside(folder, f"{dataset}_{task}_{short}.png"))
            title = f"{dataset}: {short} ({task})"
            draw_bars(title, own, name, rivals.get(metric), rival).savefig(path)
            lines.append(path)
    return "\n".join(lines) or "this evaluation has no results of single classes to draw"
