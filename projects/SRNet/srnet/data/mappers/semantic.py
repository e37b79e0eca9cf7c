"""From a dataset dict to what a semantic model takes, with the paper's augmentation."""

import copy

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from srnet.ranges import check_keys

from ..resized_crop import ResizedCrop
from ..transforms import PadToSize
from .base import ImageMapper, read_checked


def build_semantic_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Build the paper's augmentation: random scale, crop and flip in training, a resize otherwise.

    The scale is the length of the short side, uniform over the range `MIN_SIZE_TRAIN` where
    `MIN_SIZE_TRAIN_SAMPLING` is "range": (180, 720) scales 480 x 360 images by 0.5 to 2.
    `MIN_SIZE_TEST: 0` keeps the size.
    """
    if not is_train:
        if not cfg.INPUT.MIN_SIZE_TEST:
            return []
        return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)]
    resize = T.ResizeShortestEdge(
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    )
    augmentations: list[T.Augmentation] = [resize]
    crop, ignore_value = cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if crop.ENABLED:
        if crop.SINGLE_CATEGORY_MAX_AREA < 1:
            draw = T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignore_value
            )
        else:
            # Not FixedSizeCrop: it draws one number for both axes, so its crops lie on the image's
            # diagonal.
            draw = T.RandomCrop(crop.TYPE, crop.SIZE)
        augmentations = [ResizedCrop(resize, draw)]
        if crop.PAD and crop.TYPE == "absolute":
            augmentations.append(PadToSize(crop.SIZE, cfg.MODEL.PIXEL_MEAN, ignore_value))
    check_keys(cfg, "INPUT.RANDOM_FLIP")
    if cfg.INPUT.RANDOM_FLIP != "none":
        horizontal = cfg.INPUT.RANDOM_FLIP == "horizontal"
        augmentations.append(T.RandomFlip(horizontal=horizontal, vertical=not horizontal))
    return augmentations


class SemanticSegmentationMapper(ImageMapper):
    """Map a dataset dict to "image" (3, H, W), and in training "sem_seg" (H, W), int64.

    Images are uint8. They are float32 where they are padded, with a mean that is no whole number,
    and in formats that are no 8 bits a channel.

    Args:
        is_train: whether to read the label.
        augmentations: applied to the image, and in training to the label with it.
        image_format: "RGB" or "BGR".
        num_classes: labels from 0 to ``num_classes - 1`` are classes.
        ignore_value: the label that counts for nothing.
        skip_bad_images: log an image that cannot be read and return None, instead of raising.

    Raises:
        ValueError: in a call: an image or label that does not decode, differs in size from the
            other, in evaluation too, or has a label out of the range; the message names the file.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation],
        image_format: str,
        num_classes: int,
        ignore_value: int,
        skip_bad_images: bool = False,
    ):
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.skip_bad_images = skip_bad_images

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Read `INPUT`, `MODEL.SEM_SEG_HEAD` and `DATALOADER.SKIP_BAD_IMAGES`."""
        return {
            "is_train": is_train,
            "augmentations": build_semantic_augmentation(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "skip_bad_images": cfg.DATALOADER.SKIP_BAD_IMAGES,
        }

    @classmethod
    def without_augmentation(cls, cfg: CfgNode) -> dict:
        """The arguments of a training mapper that prepares images as an evaluation does."""
        return {"augmentations": build_semantic_augmentation(cfg, is_train=False)}

    def map(self, dataset_dict: dict) -> dict:
        """Read, check and augment one image of a dataset."""
        dataset_dict = copy.copy(dataset_dict)
        image, label = read_checked(
            dataset_dict,
            self.image_format,
            is_train=self.is_train,
            num_classes=self.num_classes,
            ignore_value=self.ignore_value,
        )
        augmented = T.AugInput(image, sem_seg=label)
        self.augmentations(augmented)
        return {**dataset_dict, **to_sample(augmented)}


def to_sample(augmented: T.AugInput) -> dict[str, torch.Tensor]:
    """The tensors of an image and its label, as :class:`SemanticSegmentationMapper` has them."""
    image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
    sample = {"image": torch.as_tensor(image)}
    if image.dtype != np.uint8:
        sample["image"] = sample["image"].float()
    if augmented.sem_seg is not None:
        sample["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype(np.int64))
    return sample
