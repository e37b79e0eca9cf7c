"""Published ImageNet weights, renamed to the names of this project's backbones.

The result is checked, parameter by parameter. The classifier is left out.
"""

import os
import re

import torch

from srnet.modeling import DFNet, WiderResNet38
from srnet.modeling.backbone.dfnet import VARIANTS

from .architecture import check, check_backbone, check_values
from .efficientnet_lite import convert_efficientnet_lite0
from .files import read_file, write_weights
from .torchvision_names import has_torchvision_names, to_detectron2_names
from .wrappers import strip_prefixes, unwrap

CLASSIFIER = re.compile(r"(fc|classifier|head|linear)\.")
DFNET_BLOCK = re.compile(r"stage(\d+)(?:_(\d+))?\.(\d+)\.(.+)")

State = dict[str, torch.Tensor]


def read(path: str | os.PathLike) -> State:
    """Read the weights of a checkpoint without running code from it.

    Returns:
        Tensors by name, without what wrappers leave around them and the classifier.

    Raises:
        CheckpointError: it is missing, damaged, no checkpoint, or holds no weights by name.
    """
    weights = strip_prefixes(unwrap(read_file(path), path)["model"])
    return {k: torch.as_tensor(v) for k, v in weights.items() if not CLASSIFIER.match(k)}


def convert_dfnet(state: State) -> State:
    """Rename a DFNet of the authors: the stem is their stage1, the blocks are in the same order.

    Raises:
        ValueError: it is neither variant; the message says how they differ.
    """
    blocks: dict[tuple[int, int, int], State] = {}
    renamed = {}
    for name, value in state.items():
        match = DFNET_BLOCK.fullmatch(name)
        if match and match[1] != "1":
            place = (int(match[1]), int(match[2] or 0), int(match[3]))
            blocks.setdefault(place, {})[match[4]] = value
        else:
            renamed[name.replace("stage1.", "stem.", 1)] = value
    depths = {v: sum(n for groups in s for _, n in groups) for v, s in VARIANTS.items()}
    variant = next((v for v, depth in depths.items() if depth == len(blocks)), None)
    if variant is None:
        known = ", ".join(f"DFNet-{v} has {n}" for v, n in depths.items())
        raise ValueError(f"the checkpoint has {len(blocks)} residual blocks: {known}")
    places = iter(sorted(blocks))
    for stage, groups in enumerate(VARIANTS[variant], start=2):
        for index in range(sum(count for _, count in groups)):
            for name, value in blocks[next(places)].items():
                renamed[f"stage{stage}.{index}.{name}"] = value
    with torch.device("meta"):
        model = DFNet(VARIANTS[variant])
    return check(renamed, model)


def convert_wider_resnet(state: State) -> State:
    """Rename a Wider-ResNet-38 of Gated-SCNN (norm and ReLU in a Sequential) or of In-place ABN."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("mod1.conv1.", "mod1.").replace(".convs.", ".")
        name = name.replace(".proj_conv.", ".shortcut.")
        name = re.sub(r"^bn_out\.(0\.)?", "norm_out.0.", name)
        renamed[re.sub(r"\.bn(\d)\.(0\.)?", r".norm\1.", name)] = value
    with torch.device("meta"):
        model = WiderResNet38()
    return check(renamed, model)


def convert_resnet(state: State) -> State:
    """Rename a ResNet of torchvision to Detectron2's names.

    Raises:
        ValueError: the names are not torchvision's, or not all those of a ResNet.
    """
    if not has_torchvision_names(state):
        raise ValueError("the names are not those of a torchvision ResNet with a plain stem")
    renamed = to_detectron2_names(state)
    check_backbone(renamed)
    return renamed


CONVERTERS = {
    "dfnet": convert_dfnet,
    "wider-resnet": convert_wider_resnet,
    "resnet": convert_resnet,
    "efficientnet-lite0": convert_efficientnet_lite0,
}


def convert(kind: str, source: str | os.PathLike, target: str | os.PathLike) -> int:
    """Convert a file; a run that fails leaves the target as it was.

    Args:
        kind: of `CONVERTERS`.
        source: the published checkpoint.
        target: the file to write.

    Returns:
        The number of parameters and statistics.

    Raises:
        CheckpointError: as :func:`read`.
        ValueError: the source is another network's checkpoint; the message names the difference.
        OSError: the target cannot be written.
    """
    state = read(source)
    try:
        state = CONVERTERS[kind](state)
        check_values(state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    write_weights(target, state)
    return sum(value.numel() for value in state.values())
