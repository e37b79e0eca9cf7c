"""The meta-architecture of the semantic models."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from detectron2.structures import ImageList

from ..build import fit_to_device
from ..inference import SemanticInference
from ..semantic import resize_map


@META_ARCH_REGISTRY.register()
class SRSemanticSegmentor(SemanticSegmentor):
    """Detectron2's SemanticSegmentor for crops and images of any size.

    Detectron2's heads upsample by their stride, which misses the size of the image where the stride
    does not divide it (the paper's 769 crop). Here the head's logits are resized to the image
    itself.

    Args:
        inference: arguments of :class:`SemanticInference`; whole images by default.
        arguments: those of Detectron2's SemanticSegmentor.
    """

    @configurable
    def __init__(self, *, inference: dict | None = None, **arguments: Any):
        super().__init__(**arguments)
        self.inference = SemanticInference(self.logits, **(inference or {}))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build backbone and head, fit for the device."""
        arguments = super().from_config(cfg)
        arguments["inference"] = SemanticInference.arguments(cfg)
        for name in ("backbone", "sem_seg_head"):
            arguments[name] = fit_to_device(cfg, arguments[name])
        return arguments

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images (N, 3, H, W) to logits (N, classes, H, W)."""
        height, width = images.shape[-2:]
        divisor = max(1, self.backbone.size_divisibility)
        images = F.pad(images, (0, -width % divisor, 0, -height % divisor))
        logits, _ = self.sem_seg_head(self.backbone(images))
        return resize_map(logits, images.shape[-2:])[..., :height, :width]

    def forward(
        self, batched_inputs: list[dict]
    ) -> dict[str, torch.Tensor] | list[dict[str, torch.Tensor]]:
        """Compute losses in training, predictions otherwise.

        Args:
            batched_inputs: what the mapper makes: "image" (3, H, W); "sem_seg" (H, W), int64, in
                training; "height" and "width" of the result in inference, those of the image by
                default.

        Returns:
            A dict of losses, or a list with ``{"sem_seg": (classes, height, width)}`` an image:
            logits, or probabilities where `TEST.SEM_SEG` averages several views.
        """
        images = [
            (x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        if self.training:
            labels = [x["sem_seg"].to(self.device) for x in batched_inputs]
            targets = self._batch(labels, self.sem_seg_head.ignore_value)
            _, losses = self.sem_seg_head(self.backbone(self._batch(images, 0.0)), targets)
            return losses
        sizes = [
            (x.get("height", image.shape[-2]), x.get("width", image.shape[-1]))
            for image, x in zip(images, batched_inputs, strict=True)
        ]
        names = [x.get("file_name", "an image") for x in batched_inputs]
        return [{"sem_seg": x} for x in self.inference.predict_batch(images, sizes, names)]

    def _batch(self, tensors: list[torch.Tensor], pad_value: float) -> torch.Tensor:
        return ImageList.from_tensors(
            tensors,
            self.backbone.size_divisibility,
            pad_value=pad_value,
            padding_constraints=self.backbone.padding_constraints,
        ).tensor
