"""A resize and a crop as one transform, which computes no pixel that the crop leaves out.

A training sample of Cityscapes is resized to up to 4096 x 2048 pixels, of which a crop of 769 x 769
is left. Pillow resizes a box of the image as well, so the crop is drawn first.
"""

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, TransformList
from PIL import Image

# Pillow keeps the ends of a box in single precision, which moves pixels by up to 1e-4 of their
# distance, and where a value lies between two levels another one comes out. Within so many pixels
# there is nearly always an end that single precision holds.
_SEARCHED = 48


class ResizedCrop(T.Augmentation):
    """Draw a resize and then a crop of the resized image; apply both at once.

    The random numbers, and so the crops, are those of the two augmentations one after the other.
    Labels are equal to theirs, and pixels but for rounding: by up to 2 of 255 levels in about 0.1 %
    of them.

    Args:
        resize: draws a resize, as Detectron2's ResizeShortestEdge.
        crop: Detectron2's RandomCrop or RandomCrop_CategoryAreaConstraint.
    """

    def __init__(self, resize: T.Augmentation, crop: T.Augmentation):
        super().__init__()
        self.resize = resize
        self.crop = crop

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray | None) -> TransformList:
        """Both transforms, for an image (H, W, C) and its label (H, W), or None."""
        resize = self.resize.get_transform(image)
        if not isinstance(resize, T.ResizeTransform):  # the image keeps its size
            return TransformList([resize, self._crop(image, sem_seg)])
        # A crop is drawn from the size of the image, and perhaps from labels inside it.
        resized = np.broadcast_to(np.uint8(0), (resize.new_h, resize.new_w))
        label = None if sem_seg is None else _ResizedLabel(sem_seg, resize)
        return CroppedResize(resize, self._crop(resized, label))

    def _crop(self, image: np.ndarray, label: "np.ndarray | _ResizedLabel | None") -> CropTransform:
        if isinstance(self.crop, T.RandomCrop_CategoryAreaConstraint):
            return self.crop.get_transform(image, label)
        return self.crop.get_transform(image)


class CroppedResize(TransformList):
    """A resize and a crop. Images and labels go through both at once, everything else in turns.

    Args:
        resize: of the whole image.
        crop: of the resized image.
    """

    def __init__(self, resize: T.ResizeTransform, crop: CropTransform):
        super().__init__([resize, crop])
        self.resize = resize
        self.crop = crop

    def _apply(self, x: np.ndarray, meth: str) -> np.ndarray:
        window = self.crop
        if meth == "apply_segmentation":
            rows = slice(window.y0, window.y0 + window.h)
            columns = slice(window.x0, window.x0 + window.w)
            return _ResizedLabel(x, self.resize)[rows, columns]
        # Detectron2 resizes other types by other means, without a box.
        if meth == "apply_image" and x.dtype == np.uint8 and x.ndim == 3 and x.shape[2] == 3:
            return self._apply_image(x)
        return super()._apply(x, meth)

    def _apply_image(self, image: np.ndarray) -> np.ndarray:
        resize, crop = self.resize, self.crop
        y, x = crop.y0, crop.x0
        rows = _Span(y, y + crop.h, resize.h, resize.new_h)
        columns = _Span(x, x + crop.w, resize.w, resize.new_w)
        # In the order in which the channels lie in memory: copying a BGR view is slow.
        step = -1 if image.strides[2] < 0 else 1
        source = image[rows.source, columns.source, ::step]
        resized = Image.fromarray(source).resize(
            (columns.stop - columns.start, rows.stop - rows.start),
            resize.interp,
            box=(columns.box[0], rows.box[0], columns.box[1], rows.box[1]),
        )
        y, x = y - rows.start, x - columns.start
        return np.asarray(resized)[y : y + crop.h, x : x + crop.w, ::step]


class _Span:
    """What has to be computed along one axis for the pixels `first` to `last - 1` of a resize.

    Attributes:
        start: the first pixel to compute, at most `first`.
        stop: one past the last pixel to compute, at least `last`.
        source: the pixels of the image that they depend on.
        box: the ends of `start` to `stop` in the image, from the beginning of `source`.
    """

    def __init__(self, first: int, last: int, length: int, new_length: int):
        scale = length / new_length
        margin = int(np.ceil(max(scale, 1))) + 1  # of Pillow's bilinear filter, rounded up
        starts = np.arange(first, max(-1, first - _SEARCHED - 1), -1)
        offsets = np.maximum(0, np.floor(starts * scale).astype(int) - margin)
        best = _most_exact(starts * length / new_length - offsets)
        self.start, offset = int(starts[best]), int(offsets[best])
        stops = np.arange(last, min(new_length, last + _SEARCHED) + 1)
        ends = stops * length / new_length
        self.stop = int(stops[_most_exact(ends - offset)])
        low, high = (place * length / new_length for place in (self.start, self.stop))
        self.source = slice(offset, min(length, int(np.ceil(high)) + margin))
        self.box = (low - offset, high - offset)


def _most_exact(values: np.ndarray) -> int:
    """The first of the numbers that single precision holds best."""
    return int(np.abs(values - values.astype(np.float32)).argmin())


class _ResizedLabel:
    """A resized label that is computed where it is looked at: what a crop needs to be drawn.

    Which pixel is the nearest is asked of the resize itself, with a row of numbers for a label.

    Args:
        label: (H, W).
        resize: to (H', W').
    """

    def __init__(self, label: np.ndarray, resize: T.ResizeTransform):
        self.label = label
        self.shape = (resize.new_h, resize.new_w)
        self.rows = _nearest(resize.h, resize.new_h, label.dtype)
        self.columns = _nearest(resize.w, resize.new_w, label.dtype)

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        rows, columns = self.rows[window[0]], self.columns[window[1]]
        return self.label.take(rows, axis=0).take(columns, axis=1)


def _nearest(length: int, new_length: int, dtype: np.dtype) -> np.ndarray:
    """The place that each of `new_length` pixels comes from in a label of a type."""
    if dtype == np.uint8:  # Pillow's way; 32 bits hold the places
        row = Image.fromarray(np.arange(length, dtype=np.int32)[None])
        return np.asarray(row.resize((new_length, 1), Image.Resampling.NEAREST))[0]
    resize = T.ResizeTransform(1, length, 1, new_length)
    return resize.apply_segmentation(np.arange(length, dtype=np.float32)[None])[0].astype(int)
