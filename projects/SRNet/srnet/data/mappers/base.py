"""What the mappers of all tasks share: images that cannot be read, and labels beside images."""

import logging

import numpy as np
from detectron2.data import detection_utils

from ..read import UnreadableImageError, check_label_size, read_image, read_label


class ImageMapper:
    """Map the record of an image with :meth:`map`, and handle images that cannot be read.

    Attributes:
        skip_bad_images: log an image that cannot be read and return None, instead of raising.
        skipped: how many were passed over in this process.
    """

    skip_bad_images = False
    skipped = 0

    def map(self, dataset_dict: dict) -> dict:
        """Read and transform one image."""
        raise NotImplementedError

    def __call__(self, dataset_dict: dict) -> dict | None:
        """Map one image, or pass over it.

        Raises:
            UnreadableImageError: the image or its label cannot be read, and `skip_bad_images` is
                off; the message names the file.
        """
        try:
            return self.map(dataset_dict)
        except UnreadableImageError as error:
            if not self.skip_bad_images:
                raise UnreadableImageError(
                    f"{error}. DATALOADER.SKIP_BAD_IMAGES True goes on without such files"
                ) from error
            self.skipped += 1
            logging.getLogger(__name__).warning(
                "skipping %s, number %d in this process: %s",
                dataset_dict["file_name"],
                self.skipped,
                error,
            )
            return None


def read_checked(
    dataset_dict: dict,
    image_format: str,
    *,
    is_train: bool,
    num_classes: int | None,
    ignore_value: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the image of a record and its semantic label, and check that they fit.

    Args:
        dataset_dict: has "file_name" and perhaps "sem_seg_file_name" and "label_mapping", which are
            removed.
        image_format: as in :func:`srnet.data.read.read_image`.
        is_train: read the label; otherwise only its size is checked, before the image is predicted.
        num_classes: as in :func:`srnet.data.read.read_label`.
        ignore_value: likewise.

    Returns:
        The image (H, W, C), and the label (H, W) of a type that Detectron2's transforms take, or
        None.

    Raises:
        UnreadableImageError: the image or the label does not decode.
        ValueError: the label differs in size from the image, has colours instead of indices, or an
            index out of the range.
    """
    image = read_image(dataset_dict["file_name"], image_format)
    detection_utils.check_image_size(dataset_dict, image)
    path = dataset_dict.pop("sem_seg_file_name", None)
    mapping = dataset_dict.pop("label_mapping", None)
    if path is None:
        return image, None
    size = image.shape[:2]
    if not is_train:
        check_label_size(dataset_dict["file_name"], size, path)
        return image, None
    label = read_label(path, num_classes, ignore_value, mapping)
    check_label_size(dataset_dict["file_name"], size, path, label.shape)
    # Detectron2 resizes uint8 with Pillow and everything else with PyTorch, which takes no
    # integers; float32 holds any class index exactly.
    largest = max(label.max() if num_classes is None else num_classes, ignore_value)
    return image, label.astype(np.uint8 if largest <= 255 else np.float32)
