"""The one reader of images and labels: every task, training and evaluation go through it.

Pillow decodes. What an image becomes is the same for all tasks: 8 bits a channel, RGB or what
`INPUT.FORMAT` says, turned as its EXIF tag tells. Labels are one channel of class indices.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

from .label_mapping import LabelMapping
from .paths import check_regular

# Pillow refuses to decode more: a small file could fill the memory.
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**63)
# "P" stores indices with a palette for viewers: the indices are what NumPy gets.
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """A file that is no image, or that cannot be decoded whole; the message names it."""


def decode(path: str | os.PathLike, what: str = "image") -> Image.Image:
    """Decode an image file whole, in the mode it is stored in, turned as its EXIF tag tells.

    Args:
        path: a file, or what Detectron2's PathManager opens.
        what: what the error message calls it.

    Raises:
        UnreadableImageError: it is missing, no regular file, no image, cut off, damaged, or too
            large for Pillow (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    with _opened(path, what) as image:
        image.load()
        return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """Turn a decoded image as its EXIF tag tells."""
    turn = _TURNS.get(_orientation(image))
    turned = image if turn is None else image.transpose(turn)
    turned.format = image.format  # a transposed image has none
    return turned


def stored_size(path: str | os.PathLike, what: str = "image") -> tuple[int, int]:
    """(width, height) of an image file in pixels, before it is turned; nothing is decoded.

    Raises:
        UnreadableImageError: as :func:`decode`, but for damage after the header.
    """
    with _opened(path, what) as image:
        return image.size


@contextmanager
def _opened(path: str | os.PathLike, what: str) -> Iterator[Image.Image]:
    path = os.fspath(path)
    try:
        if "://" not in path:
            check_regular(path)
        with PathManager.open(path, "rb") as file, Image.open(file) as image:
            yield image
    except Exception as error:  # Pillow has no one error for a damaged file
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            empty = "://" not in path and os.stat(path).st_size == 0
            reason = "it is empty" if empty else "it is no image of a kind that Pillow knows"
        raise UnreadableImageError(f"cannot read the {what} {path}: {reason}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged tag turns nothing, as in viewers
        return 1


def read_rgb(path: str | os.PathLike) -> Image.Image:
    """Read an image of any kind that Pillow knows as 8-bit RGB.

    16-bit grey values keep their high byte. An alpha channel is dropped. Floating-point numbers and
    32-bit integers do not tell their range: values from 0 to 255 are taken as they are, and
    floating-point images with no value above 1 are taken as shares of 255.

    Raises:
        UnreadableImageError: as :func:`decode`, or values out of the range, or not a number.
    """
    return to_rgb(decode(path), path)


def to_rgb(image: Image.Image, path: str | os.PathLike) -> Image.Image:
    """Convert a decoded image as :func:`read_rgb` does; `path` is for messages."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _grey(np.asarray(image) >> 8)
    if image.mode in ("F", "I"):
        return _grey(_in_range(np.asarray(image), image.mode, path))
    try:
        return image.convert("RGB")
    except ValueError as error:  # a mode without a way to RGB
        raise UnreadableImageError(f"cannot read the image {path}: {error}") from error


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _in_range(values: np.ndarray, mode: str, path: str | os.PathLike) -> np.ndarray:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 255):  # true of NaN, too
        kind = "floating-point numbers" if mode == "F" else "32-bit integers"
        raise UnreadableImageError(
            f"cannot read the image {path}: its {kind} reach from {low} to {high}, and only 0 to "
            "255 (or 0 to 1) have one meaning: convert it to 8 or 16 bits"
        )
    return np.rint(values * 255 if mode == "F" and high <= 1 else values)


def read_image(path: str | os.PathLike, image_format: str) -> np.ndarray:
    """Read an image as Detectron2's models take it.

    Args:
        path: as in :func:`decode`.
        image_format: `INPUT.FORMAT`: "RGB", "BGR" or another that Detectron2 knows.

    Returns:
        (H, W, 3) array of uint8; (H, W, 1) for "L", and float for "YUV-BT.601".

    Raises:
        UnreadableImageError: as :func:`read_rgb`.
    """
    return detection_utils.convert_PIL_to_numpy(read_rgb(path), image_format)


def read_label(
    path: str | os.PathLike,
    num_classes: int | None,
    ignore_value: int,
    mapping: LabelMapping | None = None,
) -> np.ndarray:
    """Read a label image.

    Args:
        path: an image of class indices, or of what `mapping` knows.
        num_classes: labels from 0 to ``num_classes - 1`` are classes; None for any label.
        ignore_value: the label that counts for nothing.
        mapping: from the values or colours of the pixels to class indices.

    Returns:
        (H, W) array of int64.

    Raises:
        UnreadableImageError: it does not decode; the message names the file.
        ValueError: it has colours instead of indices, is a JPEG or the like, has a label out of the
            range, or one that the mapping does not know; the message names the file.
    """
    image = decode(path, "label image")
    if image.format in LOSSY:
        raise ValueError(
            f"{path} is a {image.format} file, whose compression changes the class indices: save "
            "labels as PNG"
        )
    if mapping is not None and mapping.colors:
        return mapping.to_classes(np.asarray(image.convert("RGB")), path)
    if image.mode not in INDEX_MODES:
        raise ValueError(
            f"{path} is a {image.mode} image where one channel of class indices is expected: was "
            "the dataset prepared (datasets/README.md)? Labels of your own that are colours need "
            "LABEL_COLORS (docs/OWN_DATA.md)"
        )
    label = np.asarray(image).astype(np.int64)
    if mapping is not None:
        return mapping.to_classes(label, path)
    if num_classes is None:
        return label
    wrong = (label != ignore_value) & ((label < 0) | (label >= num_classes))
    if wrong.any():
        raise ValueError(
            f"{path} has the label {label[wrong][0]}; {num_classes} classes have labels 0 to "
            f"{num_classes - 1}, and {ignore_value} is ignored"
        )
    return label


def check_label_size(
    image_path: str | os.PathLike,
    image_size: Sequence[int],
    label_path: str | os.PathLike,
    label_size: Sequence[int] | None = None,
) -> None:
    """Check that a label has the size of its image.

    Args:
        image_path: for the message.
        image_size: (height, width) in pixels, after turning.
        label_path: the label.
        label_size: (height, width) of the label; read from the file where it is not given.

    Raises:
        UnreadableImageError: the label does not decode.
        ValueError: the sizes differ; the message names both files.
    """
    if label_size is None:
        label_size = decode(label_path, "label image").size[::-1]
    if tuple(image_size) == tuple(label_size):
        return
    turned = tuple(image_size) == tuple(label_size[::-1])
    raise ValueError(
        f"{image_path} is {image_size[1]} x {image_size[0]} pixels, its label {label_path} "
        f"{label_size[1]} x {label_size[0]}"
        + (": does the image's EXIF tag turn it, and the label lies unturned?" if turned else "")
    )
