"""Transforms beside Detectron2's."""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform, PadTransform, Transform


class PadToSize(T.Augmentation):
    """Pad images below and on the right to a size, with a value of its own for each channel.

    Detectron2's FixedSizeCrop has one value for all channels.

    Args:
        size: (height, width) in pixels; larger images stay as they are.
        values: one for each channel: the mean, for pixels that are 0 after normalisation.
        label: what label images are padded with.
    """

    def __init__(self, size: Sequence[int], values: Sequence[float], label: int):
        super().__init__()
        self.size = size
        self.values = values
        self.label = label

    def get_transform(self, image: np.ndarray) -> Transform:
        """The padding of an image (H, W, C)."""
        height, width = image.shape[:2]
        below, right = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        if not (below or right):
            return NoOpTransform()  # so the image stays uint8
        return ChannelPad(right, below, width, height, self.values, self.label)


class ChannelPad(PadTransform):
    """fvcore's PadTransform with a value of its own for each channel.

    The image becomes float32, so the values are not rounded.
    """

    def __init__(
        self, right: int, below: int, width: int, height: int, values: Sequence[float], label: int
    ):
        super().__init__(0, 0, right, below, width, height, seg_pad_value=label)
        self.values = values

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Pad an image (H, W, C)."""
        height, width, channels = img.shape
        padded = np.empty((height + self.y1, width + self.x1, channels), np.float32)
        padded[:] = self.values
        padded[:height, :width] = img
        return padded
