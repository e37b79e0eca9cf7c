"""The meta-architecture of the image classifiers (section IV-E)."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from ..build import fit_to_device


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """A backbone, the mean over the positions of its last map, and a linear layer.

    Args:
        backbone: any backbone of Detectron2's registry.
        in_feature: the map to classify.
        num_classes: number of classes.
        pixel_mean: mean of each channel of the image, on the scale of 0 to 255.
        pixel_std: standard deviation of each channel, on the same scale.
        label_smoothing: the share of the target that is spread over all classes.
        resize_test: the short side of a raw image after resizing, in pixels.
        size_test: the side of the centre crop of a raw image, in pixels.

    Raises:
        ValueError: the backbone does not return ``in_feature``, or there are less than 2 classes.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_feature: str,
        num_classes: int,
        pixel_mean: tuple[float, ...],
        pixel_std: tuple[float, ...],
        label_smoothing: float = 0.0,
        resize_test: int = 256,
        size_test: int = 224,
    ):
        super().__init__()
        shapes = backbone.output_shape()
        if in_feature not in shapes:
            raise ValueError(
                f"MODEL.CLASSIFIER.IN_FEATURE={in_feature!r} is not what the backbone returns: "
                f"{', '.join(shapes)}"
            )
        if num_classes < 2:
            raise ValueError(f"MODEL.CLASSIFIER.NUM_CLASSES={num_classes} must be 2 or more")
        self.backbone = backbone
        self.in_feature = in_feature
        self.label_smoothing = label_smoothing
        self.resize_test = resize_test
        self.size_test = size_test
        self.linear = nn.Linear(shapes[in_feature].channels, num_classes)
        # As Detectron2's ResNet (Goyal et al., Accurate, Large Minibatch SGD, section 5.1).
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build the backbone, and read `MODEL.CLASSIFIER` and `INPUT.CLASSIFICATION`."""
        return {
            "backbone": fit_to_device(cfg, build_backbone(cfg)),
            "in_feature": cfg.MODEL.CLASSIFIER.IN_FEATURE,
            "num_classes": cfg.MODEL.CLASSIFIER.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "label_smoothing": cfg.MODEL.CLASSIFIER.LABEL_SMOOTHING,
            "resize_test": cfg.INPUT.CLASSIFICATION.RESIZE_TEST,
            "size_test": cfg.INPUT.CLASSIFICATION.SIZE_TEST,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pixel_mean.device

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images (N, 3, H, W) to logits (N, classes)."""
        features = self.backbone(images)[self.in_feature]
        return self.linear(features.mean((2, 3)))

    def prepare(self, x: dict) -> torch.Tensor:
        """Get the image of an input, resized and cropped for evaluation where it is raw.

        Raw is what has "height" and "width", the size of the image it was read from, as all inputs
        have that Detectron2's DefaultPredictor and its mapper make. This project's mapper crops
        images and leaves both out.

        Args:
            x: an input of :meth:`forward`; a raw image may have any size and is rounded to the 8
                bits a channel that it was read with.

        Returns:
            The image (3, H, W), on the scale of 0 to 255.
        """
        image = x["image"]
        if "height" not in x:
            return image
        # The mapper's operations, by Pillow as there: PyTorch's interpolation rounds otherwise.
        crop = v2.Compose([v2.Resize(self.resize_test), v2.CenterCrop(self.size_test)])
        image = to_pil_image(image.round().clamp(0, 255).to("cpu", torch.uint8))
        return pil_to_tensor(crop(image))

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Compute the loss in training, logits otherwise.

        Args:
            batched_inputs: what the mapper makes: "image" (3, H, W), of one size, on the scale of 0
                to 255; in training "class_index", or "target" (classes,), a distribution over the
                classes. In inference also raw images with "height" and "width", of any size: see
                :meth:`prepare`.

        Returns:
            A dict with the loss, or a list with ``{"logits": (classes,)}`` an image.
        """
        if not batched_inputs and not self.training:
            return []  # a batch of images that could not be read
        batch = [x["image"] if self.training else self.prepare(x) for x in batched_inputs]
        images = torch.stack(batch).to(self.device)
        logits = self.logits((images - self.pixel_mean) / self.pixel_std)
        if not self.training:
            return [{"logits": row} for row in logits.float()]
        if "target" in batched_inputs[0]:
            target = torch.stack([x["target"] for x in batched_inputs])
        else:
            target = torch.tensor([x["class_index"] for x in batched_inputs])
        loss = F.cross_entropy(
            logits.float(),
            target.to(self.device, non_blocking=True),
            label_smoothing=self.label_smoothing,
        )
        return {"loss_cls": loss}

    def check_weights(self, fit: Any) -> None:
        """Refuse to start a training from the weights of another architecture.

        A linear layer for other classes is what fine-tuning has, and context modules may be new:
        those are only logged.

        Args:
            fit: what a checkpointer found of the model in a checkpoint, with the names `new` and
                `left_over`, and the `shapes` that differ.

        Raises:
            RuntimeError: the backbone's weights do not fit; the message says which.
        """
        missing = [k for k in fit.new if k.startswith("backbone.") and ".context." not in k]
        shapes = [k for k in fit.shapes if k.startswith("backbone.")]
        # Weights of a bare backbone have no prefix; those of a detector have other heads.
        parts = {name for name, _ in self.backbone.named_children()}
        unexpected = [k for k in fit.left_over if parts & set(k.split(".")[:3])]
        problems = []
        for what, keys in (
            ("are missing in it", missing),
            ("have another shape in it", shapes),
            ("of its own have no place in the model", unexpected),
        ):
            if keys:
                problems.append(f"{len(keys)} parameters {what}, as {keys[0]}")
        if problems:
            raise RuntimeError(
                "it is of another architecture than MODEL.BACKBONE and MODEL.CONTEXT describe: "
                + "; ".join(problems)
            )
