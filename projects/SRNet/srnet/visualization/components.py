"""The input and output of a module in the colours of three principal components: Fig. 8."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from srnet.modeling.context_maps import covered_size

TITLES = ("input of SR", "output of SR")
CLIPPED = 1.0  # percent of the positions at each end that are beyond the colours


class Components(NamedTuple):
    """Two maps in one basis.

    Attributes:
        mean: (C,), what is subtracted from both.
        basis: (C, 3), orthonormal columns, the component of the largest variance first.
        shares: (3,), of the variance of both maps together, the share of each component.
        before: (3, h, w), the input in that basis.
        after: (3, h, w), the output.
    """

    mean: np.ndarray
    basis: np.ndarray
    shares: np.ndarray
    before: np.ndarray
    after: np.ndarray


def principal_components(
    before: torch.Tensor, after: torch.Tensor, covered: tuple[float, float] = (1, 1)
) -> Components:
    """The principal components of the positions of both maps together.

    One mean and one basis for both, so that a difference of colours is one of features. The sign
    of a component is free; its entry of the largest size is made positive.

    Args:
        before: (C, h, w).
        after: (C, h, w).
        covered: the shares of height and width that the image has: padding does not count.

    Raises:
        ValueError: there are fewer than three channels.
    """
    if len(before) < 3:
        raise ValueError(f"three components need 3 or more channels; the map has {len(before)}")
    height, width = covered_size(before.shape[1:], covered)
    both = torch.stack([before, after])[..., :height, :width].double().cpu()
    positions = both.permute(0, 2, 3, 1).reshape(-1, len(before))
    mean = positions.mean(dim=0)
    centred = positions - mean
    # The covariance is C x C, however large the map is.
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    basis = vectors.flip(1)[:, :3]
    largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
    basis = basis * largest.sign()
    shares = values.flip(0)[:3] / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    projected = (centred @ basis).reshape(2, height, width, 3).permute(0, 3, 1, 2)
    return Components(*(x.numpy() for x in (mean, basis, shares, *projected)))


def to_colors(found: Components) -> tuple[np.ndarray, np.ndarray]:
    """Both maps as colours, (h, w, 3) from 0 to 1: the three components as red, green and blue.

    The scale of a colour is the same for both maps.
    """
    both = np.stack([found.before, found.after])
    low, high = np.percentile(both, (CLIPPED, 100 - CLIPPED), axis=(0, 2, 3), keepdims=True)
    scaled = ((both - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return scaled[0].transpose(1, 2, 0), scaled[1].transpose(1, 2, 0)


class Consistency:
    """How alike the features of one class are within an image: the claim of Fig. 8 as a number.

    Of the variance of a map over its positions, the share within classes: 0 where all positions of
    a class are alike, 1 where classes do not tell positions apart.
    """

    def __init__(self) -> None:
        self.within, self.total = 0.0, 0.0

    def add(self, features: np.ndarray, counts: np.ndarray) -> None:
        """Add an image.

        Args:
            features: (C, h, w).
            counts: (h, w, classes), the pixels of each class in each position; each position is of
                the class with most of them.
        """
        known = counts.sum(axis=2) > 0
        classes = counts.argmax(axis=2)[known]
        x = features[:, known].astype(np.float64)
        if not x.size:
            return
        self.total += float(((x - x.mean(axis=1, keepdims=True)) ** 2).sum())
        for index in np.unique(classes):
            own = x[:, classes == index]
            self.within += float(((own - own.mean(axis=1, keepdims=True)) ** 2).sum())

    def share(self) -> float:
        """The share of the variance within classes; NaN without any."""
        return self.within / self.total if self.total > 0 else float("nan")


def draw_components(images: Sequence[np.ndarray], found: Sequence[Components]) -> Figure:
    """Draw each image beside the input and the output of the module, a line an image."""
    ratio = max(image.shape[0] / image.shape[1] for image in images)
    width = 3.2
    figure = Figure(
        figsize=(3 * width, (width * ratio + 0.1) * len(images) + 0.4),
        dpi=150,
        layout="constrained",
    )
    grid = figure.subplots(len(images), 3, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, title in zip(grid[0], ("image", *TITLES), strict=True):
        axes.set_title(title, fontsize=10)
    for line, image, components in zip(grid, images, found, strict=True):
        extent = (0, image.shape[1], image.shape[0], 0)
        for axes, picture in zip(line, (image, *to_colors(components)), strict=True):
            axes.imshow(picture, extent=extent, interpolation="nearest")
    return figure
