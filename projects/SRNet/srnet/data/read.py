"""Reading label images: one channel of class indices, checked."""

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

# "P" stores indices with a palette for viewers: the indices are what NumPy gets.
INDEX_MODES = ("L", "P", "I", "I;16")


def read_label(path: str, num_classes: int, ignore_value: int) -> np.ndarray:
    """Read a label image.

    Args:
        path: an image of class indices.
        num_classes: labels from 0 to ``num_classes - 1`` are classes.
        ignore_value: the label that counts for nothing.

    Returns:
        (H, W) array of int64.

    Raises:
        ValueError: it does not decode, has colours instead of indices, or a label out of the range;
            the message names the file.
    """
    try:
        with PathManager.open(path, "rb") as f, Image.open(f) as image:
            mode, label = image.mode, np.array(image)
    except (OSError, SyntaxError) as error:  # Pillow has both for broken files
        raise ValueError(f"cannot read the label image {path}: {error}") from error
    if mode not in INDEX_MODES:
        raise ValueError(
            f"{path} is a {mode} image where one channel of class indices is expected: was the "
            "dataset prepared (datasets/README.md)?"
        )
    label = label.astype(np.int64)
    wrong = (label != ignore_value) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        raise ValueError(
            f"{path} has the label {label[wrong][0]}; {num_classes} classes have labels 0 to "
            f"{num_classes - 1}, and {ignore_value} is ignored"
        )
    return label
