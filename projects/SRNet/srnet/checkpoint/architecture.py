"""The backbone that some weights are of, told from their names and shapes, to check them all."""

import itertools
import re
from collections.abc import Callable, Mapping

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from srnet.config import add_srnet_config
from srnet.modeling import CONTEXT_REGISTRY
from srnet.modeling.backbone.dfnet import VARIANTS

from .fit import not_finite

State = Mapping[str, torch.Tensor]

BOTTLENECK_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
BASIC_DEPTHS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34}
REDUCTIONS = (2, 4, 8, 16, 32, 64, 1)


def check_backbone(state: State) -> None:
    """Check that weights are all those of a ResNet, DFNet or Wider-ResNet, and nothing else.

    Those of a TimmBackbone pass unchecked: which network of timm it is, they do not say.

    Args:
        state: weights by the names of a bare backbone, context modules included.

    Raises:
        ValueError: a name or a shape is not the network's; the message has the first.
    """
    if all(name.startswith("body.") for name in state) and state:
        return
    with torch.device("meta"):
        model = _build_like(state)
    check(without_context(state), model)
    contexts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, value in state.items():
        place, inside, rest = name.partition(".context.")
        if inside and not name.endswith("num_batches_tracked"):
            contexts.setdefault(place, {})[rest] = tuple(value.shape)
    for place, shapes in contexts.items():
        _check_context(model, place, shapes)


def check(state: State, model: nn.Module) -> dict[str, torch.Tensor]:
    """Compare weights with those of the network they are for.

    Returns:
        The weights without counters of batch norms: checkpoints from before PyTorch 0.4.1 have
        none.

    Raises:
        ValueError: a name or a shape differs; the message has the first.
    """
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


def check_values(state: State) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        ValueError: one is; the message has its name.
    """
    name = not_finite(state)
    if name:
        raise ValueError(
            f"{name} has values that are NaN or infinite: is it of a training that diverged?"
        )


def without_context(state: State) -> dict[str, torch.Tensor]:
    """The weights that are not those of context modules."""
    return {name: value for name, value in state.items() if ".context." not in name}


def _build_like(state: State) -> nn.Module:
    cfg = get_cfg()
    add_srnet_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    if any(name.startswith("res2.") for name in state):
        _describe_resnet(cfg.MODEL.RESNETS, state)
        deep = "stem.conv2.weight" in state
        builder = "build_resnet_deeplab_backbone" if deep else "build_resnet_backbone"
    elif any(name.startswith("stage2.") for name in state):
        counts = _blocks(state, "stage")
        depths = {v: [sum(n for _, n in groups) for groups in s] for v, s in VARIANTS.items()}
        variants = [v for v, depth in depths.items() if tuple(depth) == counts]
        if not variants:
            raise ValueError(f"a DFNet does not have {counts} blocks in its stages, but {depths}")
        cfg.MODEL.DFNET.VARIANT, cfg.MODEL.DFNET.NORM = variants[0], "BN"
        builder = "build_dfnet_backbone"
    elif any(name.startswith("mod2.") for name in state):
        cfg.MODEL.WIDER_RESNET.NORM = "BN"
        builder = "build_wider_resnet_backbone"
    else:
        raise ValueError(
            "the weights are not those of a ResNet, a DFNet or a Wider-ResNet: the first is "
            f"{next(iter(state), 'missing')}"
        )
    return BACKBONE_REGISTRY.get(builder)(cfg, ShapeSpec(channels=3))


def _describe_resnet(resnets: CfgNode, state: State) -> None:
    counts = _blocks(state, "res")
    bottleneck = "res2.0.conv3.weight" in state
    depths = BOTTLENECK_DEPTHS if bottleneck else BASIC_DEPTHS
    if counts not in depths:
        raise ValueError(
            f"a ResNet does not have {counts} blocks in its stages, but one of {list(depths)}"
        )
    width, per_group = _shape(state, "res2.0.conv2.weight")[:2]
    stem = "stem.conv3.weight" if "stem.conv2.weight" in state else "stem.conv1.weight"
    resnets.DEPTH, resnets.NORM, resnets.OUT_FEATURES = depths[counts], "BN", ["res5"]
    resnets.STEM_TYPE = "deeplab" if stem == "stem.conv3.weight" else "basic"
    resnets.STEM_OUT_CHANNELS = _shape(state, stem)[0]
    resnets.RES2_OUT_CHANNELS = _shape(state, f"res2.0.conv{3 if bottleneck else 2}.weight")[0]
    if bottleneck:
        resnets.NUM_GROUPS = width // per_group
        resnets.WIDTH_PER_GROUP = per_group
    elif resnets.RES2_OUT_CHANNELS != 64:
        raise ValueError(
            f"res2 of a ResNet-{resnets.DEPTH} has 64 channels, not {resnets.RES2_OUT_CHANNELS}"
        )


def _shape(state: State, name: str) -> tuple[int, ...]:
    """The shape of a convolution's weight."""
    if name not in state:
        raise ValueError(f"{name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != 4 or 0 in shape:
        raise ValueError(f"{name} has shape {shape}, not that of a convolution")
    return shape


def _blocks(state: State, stage: str) -> tuple[int, ...]:
    """The number of blocks in each stage that there is."""
    places = {m.groups() for m in map(re.compile(rf"{stage}(\d)\.(\d+)\.").match, state) if m}
    stages = sorted({number for number, _ in places})
    return tuple(sum(number == other for other, _ in places) for number in stages)


def _check_context(model: nn.Module, place: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Check that a context module stands in a block and is one of those in the registry."""
    try:
        modules = [model.get_submodule(place), model.get_submodule(place.rpartition(".")[0])]
    except AttributeError:
        modules = []
    # DFNet's residual branch does not say its channels, but its block does.
    channels = next((m.out_channels for m in modules if hasattr(m, "out_channels")), None)
    if not isinstance(channels, int):
        raise ValueError(f"the network has no block for {place}.context")
    cfg = get_cfg()
    add_srnet_config(cfg)
    node = cfg.MODEL.CONTEXT
    if len(shapes.get("reasoning.adjacency", ())) == 2:
        node.NUM_NODES = shapes["reasoning.adjacency"][0]
    for reduction, norm in itertools.product(REDUCTIONS, ("LN", "")):
        node.REDUCTION, node.NORM = reduction, norm
        if any(_shapes_of(build, node, channels) == shapes for _, build in CONTEXT_REGISTRY):
            return
    name, shape = next(iter(shapes.items()))
    raise ValueError(
        f"{place}.context, whose {name} has shape {shape}, is no context module for {channels} "
        "channels"
    )


def _shapes_of(
    build: Callable[..., nn.Module], node: CfgNode, channels: int
) -> dict[str, tuple[int, ...]] | None:
    try:
        with torch.device("meta"):
            weights = build(node, channels, "BN").state_dict()
    except ValueError:  # the channels do not divide as the options want it
        return None
    return {n: tuple(v.shape) for n, v in weights.items() if "num_batches_tracked" not in n}
