"""Published ImageNet weights, renamed to the names of this project's backbones.

The result is checked, parameter by parameter. The classifier is left out.
"""

import os
import re
from pathlib import Path

import torch

from srnet.modeling import DFNet, WiderResNet38
from srnet.modeling.backbone.dfnet import VARIANTS

from .files import read_file, write_weights
from .torchvision_names import has_torchvision_names, to_detectron2_names

CLASSIFIER = re.compile(r"(fc|classifier|head|linear)\.")
DFNET_BLOCK = re.compile(r"stage(\d+)(?:_(\d+))?\.(\d+)\.(.+)")

State = dict[str, torch.Tensor]


def read(path: str | os.PathLike) -> State:
    """Read the weights of a checkpoint without running code from it.

    Returns:
        Tensors by name, without DataParallel's prefix and the classifier.

    Raises:
        ValueError: it is damaged, holds more than weights, or no weights.
    """
    data = read_file(path)
    for key in ("state_dict", "model"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not all(isinstance(v, torch.Tensor) for v in data.values()):
        raise ValueError(f"{path} holds no weights by name")
    state = {name.removeprefix("module."): value for name, value in data.items()}
    return {name: value for name, value in state.items() if not CLASSIFIER.match(name)}


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
        ValueError: the names are not torchvision's.
    """
    if not has_torchvision_names(state):
        raise ValueError("the names are not those of a torchvision ResNet with a plain stem")
    return to_detectron2_names(state)


def check(state: State, model: torch.nn.Module) -> State:
    """Compare converted weights with the parameters of the network they are for.

    Raises:
        ValueError: a name or a shape differs; the message has the first.
    """
    # Checkpoints from before PyTorch 0.4.1 do not count batches.
    wanted = {n: v for n, v in model.state_dict().items() if not n.endswith("num_batches_tracked")}
    state = {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}
    missing, unknown = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unknown:
        raise ValueError(
            f"{len(missing)} parameters are missing and {len(unknown)} unknown, the first "
            f"{(missing + unknown)[0]}: is this another network's checkpoint?"
        )
    for name, value in state.items():
        if value.shape != wanted[name].shape:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
            )
    return state


CONVERTERS = {
    "dfnet": convert_dfnet,
    "wider-resnet": convert_wider_resnet,
    "resnet": convert_resnet,
}


def convert(kind: str, source: str | os.PathLike, target: str | os.PathLike) -> int:
    """Convert a file; an interrupted run leaves no target.

    Args:
        kind: of `CONVERTERS`.
        source: the published checkpoint.
        target: the file to write.

    Returns:
        The number of parameters and statistics.

    Raises:
        FileNotFoundError: there is no source.
        ValueError: the source is another network's checkpoint; the message names the difference.
    """
    state = read(source)
    try:
        state = CONVERTERS[kind](state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    write_weights(Path(target), state)
    return sum(value.numel() for value in state.values())
