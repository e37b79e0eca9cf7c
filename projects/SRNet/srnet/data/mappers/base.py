"""What the mappers of all tasks share: images that cannot be read, and labels beside images."""

import logging

import numpy as np

from ..read import UnreadableImageError, check_label_size, read_label


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


def take_label(
    dataset_dict: dict,
    image: np.ndarray,
    *,
    is_train: bool,
    num_classes: int | None,
    ignore_value: int,
) -> np.ndarray | None:
    """Take the semantic label out of an image's record.

    Args:
        dataset_dict: has "file_name" and perhaps "sem_seg_file_name", which is removed.
        image: (H, W, C), as read.
        is_train: read the label; otherwise only its size is checked, before the image is predicted.
        num_classes: as in :func:`srnet.data.read.read_label`.
        ignore_value: likewise.

    Returns:
        (H, W) of a type that Detectron2's transforms take, or None.

    Raises:
        UnreadableImageError: the label does not decode.
        ValueError: it differs in size from the image, has colours instead of indices, or a label
            out of the range.
    """
    path = dataset_dict.pop("sem_seg_file_name", None)
    if path is None:
        return None
    size = image.shape[:2]
    if not is_train:
        check_label_size(dataset_dict["file_name"], size, path)
        return None
    label = read_label(path, num_classes, ignore_value)
    check_label_size(dataset_dict["file_name"], size, path, label.shape)
    # Detectron2 resizes uint8 with Pillow and everything else with PyTorch, which takes no
    # integers; float32 holds any class index exactly.
    largest = max(label.max() if num_classes is None else num_classes, ignore_value)
    return label.astype(np.uint8 if largest <= 255 else np.float32)
