"""Pictures side by side in one file, with a legend."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from srnet.data.paths import written_to


def draw_sheet(
    path: str | os.PathLike,
    rows: Sequence[Mapping[str, np.ndarray]],
    legend: Mapping[str, Sequence[int]],
    columns: int = 1,
) -> None:
    """Write rows of titled pictures to a file, with a legend of the classes.

    Args:
        path: the file; its suffix says the format.
        rows: for each image, titles and pictures (H, W, 3) of uint8, RGB.
        legend: class names and their colours (R, G, B); may be empty.
        columns: rows that stand side by side.
    """
    titles = list(rows[0])
    lines = -(-len(rows) // columns)
    ratio = max(p.shape[0] / p.shape[1] for row in rows for p in row.values())
    width, cell = 3.2, 3.2 * ratio
    legend_height = 0.3 * -(-len(legend) // (4 * columns)) if legend else 0.0
    size = (width * len(titles) * columns, cell * lines + 0.3 + legend_height)
    figure = Figure(figsize=size, dpi=160)
    grid = figure.subplots(lines, len(titles) * columns, squeeze=False)
    figure.subplots_adjust(
        0.005, legend_height / size[1], 0.995, 1 - 0.3 / size[1], wspace=0.02, hspace=0.02
    )
    for axes in grid.flat:
        axes.axis("off")
    for i, row in enumerate(rows):
        for j, (title, picture) in enumerate(row.items()):
            axes = grid[i // columns, i % columns * len(titles) + j]
            axes.imshow(picture, interpolation="antialiased")
            if i < columns:
                axes.set_title(title, fontsize=11, pad=4)
    if legend:
        patches = [
            Patch(color=tuple(np.array(color) / 255), label=n) for n, color in legend.items()
        ]
        per_line = 4 * columns if len(legend) > 5 * columns else len(legend)
        figure.legend(handles=patches, loc="lower center", ncols=per_line, frameon=False)
    with written_to(path):
        figure.savefig(path)
