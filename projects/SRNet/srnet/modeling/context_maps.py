"""The map that a Squeeze Reasoning module of a whole model gets, and what it makes of it.

The parts of the model in front of the module are called one after another. So the output of the
module is there too where inference folds it into the next convolution and never forms it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from detectron2.modeling import FPN
from detectron2.modeling.backbone import ResNet
from detectron2.structures import ImageList
from torch import nn

from srnet.layers import SqueezeReasoning

from .backbone.dfnet import DFNet
from .backbone.timm_backbone import TimmBackbone
from .semantic.base import PixelLosses


class ContextMaps(NamedTuple):
    """The maps around one module for one image.

    Attributes:
        before: (C, h, w), what goes into the module.
        after: (C, h, w), what comes out of it.
        covered: the shares of height and width that the image has of the maps; below 1 where the
            model padded it at the bottom and at the right.
    """

    before: torch.Tensor
    after: torch.Tensor
    covered: tuple[float, float]


def covered_size(size: Sequence[int], covered: tuple[float, float]) -> tuple[int, int]:
    """Rows and columns of a (h, w) map that the image covers, at least one each."""
    height, width = (max(1, round(n * share)) for n, share in zip(size, covered, strict=True))
    return height, width


def reasoning_modules(model: nn.Module) -> dict[str, SqueezeReasoning]:
    """The Squeeze Reasoning modules of a model by name, in the order of its parts."""
    return {n: m for n, m in model.named_modules() if isinstance(m, SqueezeReasoning)}


def choose_module(model: nn.Module, name: str = "") -> tuple[str, SqueezeReasoning]:
    """Find a module by its name; without a name the last one of the model.

    Raises:
        ValueError: the model has none, or none of that name; the message lists those it has.
    """
    found = reasoning_modules(model)
    if not found:
        raise ValueError(
            "the model has no Squeeze Reasoning module: choose a config with MODEL.CONTEXT.NAME sr"
        )
    name = name or list(found)[-1]
    if name not in found:
        raise ValueError(f"the model has no module {name}: choose one of {', '.join(found)}")
    return name, found[name]


@torch.no_grad()
def context_maps(model: nn.Module, image: torch.Tensor, name: str = "") -> ContextMaps:
    """Run a model on one whole image up to a Squeeze Reasoning module, and the module.

    Args:
        model: a semantic model, a detector or a panoptic model, in eval mode.
        image: (3, H, W), as the model's mapper makes it.
        name: the module's, as in `reasoning_modules`; the last one by default.

    Raises:
        ValueError: the model has no such module, or it stands where this function cannot get to.
    """
    name, module = choose_module(model, name)
    parts: Any = model
    normalised = (image.to(parts.device) - parts.pixel_mean) / parts.pixel_std
    batch = ImageList.from_tensors(
        [normalised],
        parts.backbone.size_divisibility,
        padding_constraints=parts.backbone.padding_constraints,
    ).tensor
    before = _before(parts, name, batch)
    covered = image.shape[-2] / batch.shape[-2], image.shape[-1] / batch.shape[-1]
    return ContextMaps(before[0], module(before)[0], covered)


def _before(model: Any, name: str, images: torch.Tensor) -> torch.Tensor:
    """The map that goes into a module, from normalised and padded images (N, 3, H, W)."""
    backbone, head = model.backbone, getattr(model, "sem_seg_head", None)
    if name == "sem_seg_head.context" and isinstance(head, PixelLosses):
        return head.before_context(backbone(images))
    place = name.removeprefix("backbone.").removesuffix(".context")
    if isinstance(backbone, FPN):
        backbone, place = backbone.bottom_up, place.removeprefix("bottom_up.")
    if isinstance(backbone, TimmBackbone):
        return backbone.before_context(place, images)
    stage, _, index = place.partition(".")
    if not isinstance(backbone, ResNet | DFNet) or not index.isdecimal():
        raise ValueError(
            f"the map before {name} cannot be read: only modules in a semantic head, or on the "
            "output of a backbone's block (MODEL.CONTEXT.POSITION output), can be looked at"
        )
    x = backbone.stem(images)
    for earlier in backbone.stage_names[: backbone.stage_names.index(stage)]:
        x = getattr(backbone, earlier)(x)
    blocks = getattr(backbone, stage)
    for block in blocks[: int(index)]:
        x = block(x)
    return blocks[int(index)].before_context(x)
