"""ResNets, ResNeXts and DFNets with a context module in chosen residual blocks.

The ResNets are Detectron2's own, built by its builders, so all its options hold: depth, groups,
width, dilation, deformable convolution, frozen stages, norms. The modules are added afterwards (see
`context_blocks.py`),
under names of their own (``res5.0.context.conv_b.weight``), so the standard parameters keep theirs
and every Detectron2 checkpoint loads as it is.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone import ResNet
from torch import nn

from srnet.ranges import RANGES

from ..context import context_channels
from .context_blocks import with_context
from .dfnet import DFNet, DFNetBlock


def insert_context(
    backbone: ResNet | DFNet,
    build: Callable[[int], nn.Module],
    *,
    stages: Sequence[str] = ("res5",),
    blocks: Sequence[int] | Sequence[Sequence[int]] = (),
    position: str = "output",
) -> ResNet | DFNet:
    """Add a context module to residual blocks of a Detectron2 ResNet or a DFNet, in place.

    A frozen stage gets trainable modules: they are new, and there is nothing in them to keep. The
    generator of PyTorch is left as it was, so with the same seed a network and its twin start from
    the same weights.

    Args:
        backbone: the network.
        build: makes a module (N, C, H, W) -> (N, C, H, W) from C.
        stages: names of stages, "res2" to "res5", or those of DFNet, "stage2" to "stage4".
        blocks: indices of blocks in each of the stages, negative ones counted from the last; empty
            for all. Or such a list for each of the stages.
        position: "output", on the block's output after its last ReLU (section IV-D), as
            `BLOCK.context`; or "residual", on the residual branch before the sum, where SE stands,
            as `context` of its last convolution (DFNet: of `residual`).

    Returns:
        The network.

    Raises:
        ValueError: a stage or block that the network does not have, an unknown position, or a
            module that changes the number of channels.
    """
    unknown = [stage for stage in stages if stage not in backbone.stage_names]
    if unknown or not stages:
        raise ValueError(
            f"MODEL.CONTEXT.STAGES={list(stages)} must name one or more of the backbone's stages "
            f"{', '.join(backbone.stage_names)}"
        )
    RANGES["MODEL.CONTEXT.POSITION"].check("MODEL.CONTEXT.POSITION", position)
    with torch.random.fork_rng(devices=[]):
        for name, chosen in _per_stage(stages, blocks):
            stage = getattr(backbone, name)
            for index in _choose(len(stage), chosen, name):
                _insert(stage, index, build, position)
    return backbone


def _per_stage(
    stages: Sequence[str], blocks: Sequence[int] | Sequence[Sequence[int]]
) -> list[tuple[str, Sequence[int]]]:
    """The stages, each with the indices of its blocks."""
    if all(isinstance(index, int) for index in blocks):
        return [(name, cast("Sequence[int]", blocks)) for name in stages]
    if len(blocks) != len(stages):
        raise ValueError(
            f"MODEL.CONTEXT.BLOCKS={list(blocks)} must have a list for each of "
            f"MODEL.CONTEXT.STAGES={list(stages)}"
        )
    return list(zip(stages, cast("Sequence[Sequence[int]]", blocks), strict=True))


def _insert(
    stage: nn.Sequential, index: int, build: Callable[[int], nn.Module], position: str
) -> None:
    """Put a new module into one block of a stage."""
    block = cast("CNNBlockBase | DFNetBlock", stage[index])
    context = build(block.out_channels)
    if context_channels(context, block.out_channels) != block.out_channels:
        raise ValueError(
            f"MODEL.CONTEXT: {type(context).__name__} changes the number of channels, so it cannot "
            "stand in a backbone"
        )
    if position == "output":
        stage[index] = with_context(block, context)
    else:
        # Detectron2's convolutions contain their norm.
        end = next(name for name in ("residual", "conv3", "conv2") if hasattr(block, name))
        setattr(block, end, with_context(getattr(block, end), context))


def _choose(count: int, blocks: Sequence[int], name: str) -> list[int]:
    """The indices of the chosen ones of a stage's blocks, each once."""
    wrong = [index for index in blocks if not -count <= index < count]
    if wrong:
        raise ValueError(
            f"MODEL.CONTEXT.BLOCKS={list(blocks)}: {name} has {count} blocks, so {wrong[0]} is not "
            f"between {-count} and {count - 1}"
        )
    return sorted({i % count for i in blocks or range(count)})
