"""Which channels respond to which class: Fig. 1(a)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

THRESHOLD = 0.8  # of the normalised activation, the paper's
TOP = 0.1  # the share of the channels in which a class's pixels are looked for
COLORS = ("tab:red", "tab:green", "tab:blue", "tab:orange", "tab:purple")

FloatArray = NDArray[np.floating]


class ChannelCounts:
    """Counts, for each class and channel, the pixels whose normalised activation is high.

    Each channel of each image is scaled so that its lowest value is 0 and its highest 1: the paper
    says "normalized" and no more. A constant channel is 0. A pixel of the label has the activation
    of the position of the map that it lies in.

    Args:
        num_classes: labels from 0 to ``num_classes - 1`` count.
        threshold: activations above it count.

    Attributes:
        above: (classes, C), the pixels above the threshold; a column for each channel.
        pixels: (classes,), all pixels.
    """

    def __init__(self, num_classes: int, threshold: float = THRESHOLD):
        self.num_classes, self.threshold = num_classes, threshold
        self.above = np.zeros((num_classes, 0), np.int64)
        self.pixels = np.zeros(num_classes, np.int64)

    def add(
        self, features: FloatArray, label: np.ndarray, covered: tuple[float, float] = (1, 1)
    ) -> None:
        """Add an image.

        Args:
            features: (C, h, w), the map.
            label: (H, W), class indices.
            covered: the shares of the map's height and width that the image has.
        """
        counts = pixels_by_position(label, features.shape[1:], self.num_classes, covered)
        high = (normalise(features) > self.threshold).reshape(len(features), -1)
        # Of integers NumPy makes slow products; counts are exact as float64.
        found = counts.reshape(-1, self.num_classes).T.astype(float) @ high.T.astype(float)
        found = found.astype(np.int64)
        self.above = found if not self.above.size else self.above + found
        self.pixels += counts.sum(axis=(0, 1))

    def summary(self) -> "Sparsity":
        """How few channels a class needs, and how many of them it shares with other classes."""
        return sparsity(self.above)


class Sparsity(NamedTuple):
    """Numbers for Fig. 1(a)'s "different classes lie in different groups along channels sparsely".

    Attributes:
        concentration: (classes,), of all counted pixels of a class, the share in its top tenth of
            the channels; 0.1 if all channels count alike. NaN without counted pixels.
        overlap: (classes,), of that tenth, the share that is also in the top tenth of another
            class, mean over the others; 0.1 is chance.
    """

    concentration: FloatArray
    overlap: FloatArray


def normalise(features: FloatArray) -> FloatArray:
    """Scale each channel of (C, h, w) to 0 and 1 as its lowest and highest value."""
    low = features.min(axis=(1, 2), keepdims=True)
    span = features.max(axis=(1, 2), keepdims=True) - low
    return (features - low) / np.where(span > 0, span, 1)


def pixels_by_position(
    label: np.ndarray,
    size: Sequence[int],
    num_classes: int,
    covered: tuple[float, float] = (1, 1),
) -> NDArray[np.int64]:
    """Count the pixels of each class in each position of a map.

    Args:
        label: (H, W), class indices; others than 0 to ``num_classes - 1`` do not count.
        size: (h, w) of the map.
        num_classes: the number of classes.
        covered: the shares of the map's height and width that the image has.

    Returns:
        (h, w, classes).
    """
    places = [
        np.floor((np.arange(length) + 0.5) / length * share * cells).astype(np.int64)
        for length, share, cells in zip(label.shape, covered, size, strict=True)
    ]
    cell = places[0][:, None] * size[1] + places[1]
    known = (label >= 0) & (label < num_classes)
    index = cell[known] * num_classes + label[known].astype(np.int64)
    counts = np.bincount(index, minlength=size[0] * size[1] * num_classes)
    return counts.reshape(*size, num_classes)


def sparsity(above: NDArray[Any], top: float = TOP) -> Sparsity:
    """The two numbers of :class:`Sparsity`, from counts (classes, C)."""
    number = max(1, math.ceil(top * above.shape[1]))
    order = np.argsort(-above, axis=1, kind="stable")[:, :number]
    totals = above.sum(axis=1)
    best = np.take_along_axis(above, order, axis=1).sum(axis=1)
    concentration = np.where(totals > 0, best / np.maximum(totals, 1), np.nan)
    chosen = np.zeros(above.shape, bool)
    np.put_along_axis(chosen, order, True, axis=1)
    chosen &= totals[:, None] > 0
    shared = (chosen.astype(np.int64) @ chosen.T.astype(np.int64)) / number
    others = (totals > 0).sum() - 1
    sums = shared.sum(axis=1) - np.diag(shared)
    overlap = np.where((totals > 0) & (others > 0), sums / max(others, 1), np.nan)
    return Sparsity(concentration, overlap)


def choose_classes(names: Sequence[str], pixels: np.ndarray, wanted: Sequence[str]) -> list[int]:
    """The classes to draw: those that are wanted, or the three with the most pixels.

    Raises:
        ValueError: there is no such class, or the images have no pixel of it.
    """
    if not wanted:
        return [int(i) for i in np.argsort(-pixels, kind="stable")[:3] if pixels[i]]
    known = {name.lower(): i for i, name in enumerate(names)}
    unknown = [name for name in wanted if name.lower() not in known]
    if unknown:
        raise ValueError(f"--classes {unknown[0]}: the classes are {', '.join(names)}")
    chosen = [known[name.lower()] for name in wanted]
    absent = [names[i] for i in chosen if not pixels[i]]
    if absent:
        there = ", ".join(n for n, count in zip(names, pixels, strict=True) if count)
        raise ValueError(f"--classes {absent[0]}: no pixel of these images has it, but {there}")
    return chosen


def draw_channels(
    counts: dict[str, ChannelCounts], names: Sequence[str], chosen: Sequence[int]
) -> Figure:
    """Draw, for each map, some classes over the channels as in Fig. 1(a), and all of them below.

    Above: a bar for each channel, the share of the class's pixels that is counted. Below: a row for
    each class; the channels are sorted by the class that responds the most in the first map.

    Args:
        counts: by the title of the map.
        names: of the classes.
        chosen: the classes that are drawn above.
    """
    titles, lines = list(counts), len(chosen)
    there = np.flatnonzero(next(iter(counts.values())).pixels)
    shares = {
        title: 100 * found.above / np.maximum(found.pixels, 1)[:, None]
        for title, found in counts.items()
    }
    first = shares[titles[0]][there]
    leading = first.argmax(axis=0)
    order = np.lexsort((-first.max(axis=0), leading))
    height = 1.3 * lines + 0.24 * len(there) + 1.6
    figure = Figure(figsize=(6.2 * len(titles), height), dpi=150, layout="constrained")
    grid = figure.subplots(
        lines + 1,
        len(titles),
        squeeze=False,
        height_ratios=[1.3] * lines + [0.24 * len(there) + 0.6],
    )
    limit = max(values[list(chosen)].max() for values in shares.values())
    highest = max(values[there].max() for values in shares.values())
    for column, (title, found) in enumerate(counts.items()):
        numbers = found.summary()
        for row, index in enumerate(chosen):
            axes = grid[row, column]
            channels = np.arange(found.above.shape[1])
            color = COLORS[row % len(COLORS)]
            axes.bar(channels, shares[title][index], width=1, color=color)
            axes.set(xlim=(-1, len(channels)), ylim=(0, 1.05 * limit or 1))
            axes.set_ylabel(f"{names[index]}\n% of pixels", fontsize=8)
            axes.set_title(
                f"{title}, {names[index]}: {numbers.concentration[index]:.0%} in the top tenth of "
                "the channels",
                fontsize=8,
            )
            axes.tick_params(labelsize=7)
        grid[lines - 1, column].set_xlabel("channel", fontsize=8)
        axes = grid[lines, column]
        image = axes.imshow(
            shares[title][there][:, order],
            aspect="auto",
            cmap="magma",
            norm=PowerNorm(0.5, 0, highest or 1),
            interpolation="nearest",
        )
        axes.set_yticks(range(len(there)), [names[i] for i in there], fontsize=7)
        axes.set_xlabel(f'channels, sorted by the class that leads in "{titles[0]}"', fontsize=8)
        axes.tick_params(axis="x", labelsize=7)
        figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01).ax.tick_params(labelsize=7)
    return figure
