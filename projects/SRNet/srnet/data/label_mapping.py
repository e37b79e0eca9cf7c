"""Which class the pixels of a label image are of, where they are not class indices themselves."""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class LabelMapping(NamedTuple):
    """From the values or the colours of pixels to class indices.

    Attributes:
        known: the values, sorted, int64; a colour is R + 256 G + 256^2 B.
        classes: the class index of each, int64.
        colors: pixels are colours (R, G, B); a palette image has those of its palette.
        others: the class index of all other values; None refuses them.
    """

    known: np.ndarray
    classes: np.ndarray
    colors: bool
    others: int | None

    def to_classes(self, pixels: np.ndarray, path: str | os.PathLike) -> np.ndarray:
        """Map the pixels of a label image.

        Args:
            pixels: (H, W) values, or (H, W, 3) colours of uint8.
            path: the image, for the message.

        Returns:
            (H, W) array of int64.

        Raises:
            ValueError: a value or colour without a class; the message has the first and its place.
        """
        values = pixels.astype(np.int64)
        if self.colors:
            values = values @ (1, 256, 256**2)
        places = np.searchsorted(self.known, values).clip(max=len(self.known) - 1)
        labels = self.classes[places]
        unknown = self.known[places] != values
        if not unknown.any():
            return labels
        if self.others is None:
            y, x = np.argwhere(unknown)[0].tolist()
            what = (
                f"the colour {pixels[y, x].tolist()}"
                if self.colors
                else f"the label {values[y, x]}"
            )
            key = "LABEL_COLORS" if self.colors else "LABEL_VALUES"
            raise ValueError(
                f"{path} has {what} at x={x}, y={y} ({unknown.sum()} pixels are of no class): add "
                f"it to {key} or IGNORED of its DATASETS.CUSTOM entry, or set IGNORED others"
            )
        labels[unknown] = self.others
        return labels


def make_mapping(
    pixels: Iterable[tuple[int, Iterable]], *, colors: bool, others: int | None
) -> LabelMapping:
    """Make a mapping.

    Args:
        pixels: class indices, and the values or colours (R, G, B) of each.
        colors: whether they are colours.
        others: as in :class:`LabelMapping`.
    """
    table = {
        int(np.dot(value, (1, 256, 256**2)) if colors else value): index
        for index, values in pixels
        for value in values
    }
    known = np.array(sorted(table), np.int64)
    return LabelMapping(known, np.array([table[v] for v in known], np.int64), colors, others)
