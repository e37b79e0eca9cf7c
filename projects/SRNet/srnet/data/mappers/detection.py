"""Detectron2's mapper of detectors, with this project's reader of images and labels."""

import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from .base import ImageMapper, read_checked


class DetectionMapper(ImageMapper, DatasetMapper):
    """Map a dataset dict as Detectron2's DatasetMapper does, but read files as the other tasks do.

    Args:
        is_train: whether to keep instances and semantic labels.
        num_classes: semantic labels from 0 to ``num_classes - 1`` are classes; None for any label.
        ignore_value: the semantic label that counts for nothing.
        skip_bad_images: log an image that cannot be read and return None, instead of raising.
        arguments: those of Detectron2's DatasetMapper.

    Raises:
        ValueError: in a call: an image or label that does not decode, differs in size from the
            other, in evaluation too, or has a label out of the range; the message names the file.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        num_classes: int | None = None,
        ignore_value: int = 255,
        skip_bad_images: bool = False,
        **arguments: Any,
    ):
        super().__init__(is_train, **arguments)
        self.num_classes = num_classes
        self.ignore_value = ignore_value
        self.skip_bad_images = skip_bad_images

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Read what DatasetMapper reads, and `DATALOADER.SKIP_BAD_IMAGES`."""
        arguments = super().from_config(cfg, is_train)
        return {**arguments, "skip_bad_images": cfg.DATALOADER.SKIP_BAD_IMAGES}

    @classmethod
    def without_augmentation(cls, cfg: CfgNode) -> dict:
        """The arguments of a training mapper that prepares images as an evaluation does."""
        augmentations = detection_utils.build_augmentation(cfg, is_train=False)
        return {"augmentations": augmentations, "recompute_boxes": False}

    def map(self, dataset_dict: dict) -> dict:
        """Read, check and augment one image of a dataset."""
        dataset_dict = copy.deepcopy(dataset_dict)
        image, label = read_checked(
            dataset_dict,
            self.image_format,
            is_train=self.is_train,
            num_classes=self.num_classes,
            ignore_value=self.ignore_value,
        )
        augmented = T.AugInput(image, sem_seg=label)
        transforms = self.augmentations(augmented)
        shape = augmented.image.shape[:2]
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        dataset_dict["image"] = torch.as_tensor(image)
        if label is not None:
            dataset_dict["sem_seg"] = torch.as_tensor(augmented.sem_seg.astype(np.int64))
        if self.proposal_topk is not None:
            detection_utils.transform_proposals(
                dataset_dict, shape, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, shape)
        return dataset_dict


class PanopticMapper(DetectionMapper):
    """The same, for a model with a semantic head: its labels are checked against the classes."""

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Read what DetectionMapper reads, and `MODEL.SEM_SEG_HEAD`."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            **super().from_config(cfg, is_train),
            "num_classes": head.NUM_CLASSES,
            "ignore_value": head.IGNORE_VALUE,
        }
