"""torchvision's names of ResNet and ResNeXt parameters, as mmdetection and timm also use them."""

import re
from collections.abc import Iterable, Mapping

import torch

_RULES = (
    (re.compile(r"^(module\.)?(?=conv1\.|bn1\.)"), "stem."),
    (re.compile(r"^(module\.)?layer(\d)\."), lambda match: f"res{int(match[2]) + 1}."),
    (re.compile(r"\bbn(\d)\b"), r"conv\1.norm"),
    (re.compile(r"\bdownsample\.0\b"), "shortcut"),
    (re.compile(r"\bdownsample\.1\b"), "shortcut.norm"),
    (re.compile(r"^(module\.)?fc\."), "linear."),
)
_SE = re.compile(r"(?<=\.)se\.(?=fc[12]\.)")


def has_torchvision_names(names: Iterable[str]) -> bool:
    """Whether these are the parameters of a ResNet with a plain stem, named as in torchvision."""
    names = {name.removeprefix("module.") for name in names}
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= names


def to_detectron2_names(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the parameters of a torchvision ResNet to those of a Detectron2 ResNet.

    The SE modules of a timm SE-ResNet become those of `MODEL.CONTEXT.POSITION: residual`. The
    counters of batch norms are left out: Detectron2's frozen norms have none.
    """
    last = "conv3" if any(name.endswith("layer1.0.conv3.weight") for name in weights) else "conv2"
    renamed = {}
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in _RULES:
            name = pattern.sub(replacement, name)
        name = _SE.sub(f"{last}.context.", name)
        renamed[name] = value
    return renamed
