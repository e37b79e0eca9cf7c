"""From a file to what an image classifier takes."""

from collections.abc import Callable

import torch
from detectron2.config import CfgNode, configurable
from torchvision.transforms import v2

from srnet.ranges import check_keys
from srnet.ranges.table import FORMATS

from ..read import read_rgb
from ..seeding import seeded
from .base import ImageMapper

AUGMENTATIONS = {"": None, "trivial": v2.TrivialAugmentWide, "rand": v2.RandAugment}


def build_classification_transform(cfg: CfgNode, is_train: bool) -> Callable:
    """Build torchvision's standard transforms, from an image to a uint8 tensor (3, H, W).

    Raises:
        ValueError: an unknown `INPUT.CLASSIFICATION.AUTO_AUGMENT` or `INPUT.RANDOM_FLIP`.
    """
    options = cfg.INPUT.CLASSIFICATION
    if not is_train:
        resize, crop = v2.Resize(options.RESIZE_TEST), v2.CenterCrop(options.SIZE_TEST)
        return v2.Compose([resize, crop, v2.PILToTensor()])
    check_keys(cfg, "INPUT.CLASSIFICATION.AUTO_AUGMENT", "INPUT.RANDOM_FLIP")
    transforms = [v2.RandomResizedCrop(options.SIZE, scale=options.SCALE, ratio=options.RATIO)]
    if cfg.INPUT.RANDOM_FLIP != "none":
        horizontal = cfg.INPUT.RANDOM_FLIP == "horizontal"
        transforms.append(v2.RandomHorizontalFlip() if horizontal else v2.RandomVerticalFlip())
    if options.AUTO_AUGMENT:
        transforms.append(AUGMENTATIONS[options.AUTO_AUGMENT]())
    transforms.append(v2.PILToTensor())
    if options.RANDOM_ERASING:
        mean = [round(value) for value in cfg.MODEL.PIXEL_MEAN]
        transforms.append(v2.RandomErasing(options.RANDOM_ERASING, value=mean))
    return v2.Compose(transforms)


class ClassificationMapper(ImageMapper):
    """Read and transform an image: "image" (3, H, W), uint8, beside the dict's own keys.

    "height" and "width" are left out: ImageClassifier takes an image with them for a raw one, and
    would resize and crop it again.

    Args:
        transform: from an RGB image to the tensor.
        image_format: "RGB" or "BGR".
        mix: MixUp or CutMix of a batch (images, class indices), or None.
        skip_bad_images: log an image that cannot be read and return None, instead of raising.

    Raises:
        ValueError: in a call: an image that cannot be read; the message names it.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        transform: Callable,
        image_format: str = "RGB",
        mix: Callable | None = None,
        skip_bad_images: bool = False,
    ):
        FORMATS.check("INPUT.FORMAT", image_format)
        self.is_train = is_train
        self.transform = transform
        self.image_format = image_format
        self.mix = mix
        self.skip_bad_images = skip_bad_images

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Read `INPUT` and `DATALOADER.SKIP_BAD_IMAGES`."""
        options = cfg.INPUT.CLASSIFICATION
        classes = cfg.MODEL.CLASSIFIER.NUM_CLASSES
        mixes = [
            kind(alpha=alpha, num_classes=classes)
            for kind, alpha in ((v2.MixUp, options.MIXUP), (v2.CutMix, options.CUTMIX))
            if alpha > 0
        ]
        return {
            "is_train": is_train,
            "transform": build_classification_transform(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "mix": v2.RandomChoice(mixes) if mixes and is_train else None,
            "skip_bad_images": cfg.DATALOADER.SKIP_BAD_IMAGES,
        }

    @classmethod
    def without_augmentation(cls, cfg: CfgNode) -> dict:
        """The arguments of a training mapper that prepares images as an evaluation does."""
        return {"transform": build_classification_transform(cfg, is_train=False), "mix": None}

    def map(self, dataset_dict: dict) -> dict:
        """Read and transform one image."""
        image = read_rgb(dataset_dict["file_name"])
        image = self.transform(image)
        if self.image_format == "BGR":
            image = image.flip(0)
        kept = {k: v for k, v in dataset_dict.items() if k not in ("height", "width")}
        mapped = {**kept, "image": image}
        if self.mix is not None:
            mapped["mix_seed"] = int(torch.randint(2**31, ()))
        return mapped

    def collate(self, batch: list[dict | None]) -> list[dict]:
        """Leave out what was skipped, and mix the images of a process's batch.

        A mixed image has a "target" (classes,), the weights of its classes. The random numbers come
        from the stream's, so a resumed run mixes as the uninterrupted one.
        """
        there = [x for x in batch if x is not None]
        if self.mix is None or not there:
            return there
        images = torch.stack([x["image"] for x in there]).float()
        labels = torch.tensor([x["class_index"] for x in there])
        with seeded(there[0]["mix_seed"]):
            images, targets = self.mix(images, labels)
        images = images.round().to(torch.uint8)
        return [
            {**x, "image": image, "target": target}
            for x, image, target in zip(there, images, targets, strict=True)
        ]
