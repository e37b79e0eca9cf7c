"""The blocks of the backbones with a context module in them.

Each class is another one whose output goes through a child named `context`. All other parameters
keep their names, so standard checkpoints load. The classes are written out, not made at run time,
so that networks can be pickled.
"""

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import (
    BasicBlock,
    BottleneckBlock,
    DeformBottleneckBlock,
)
from torch import nn

from .dfnet import DFNetBlock, Residual


def renamed(method: Callable, name: str) -> FunctionType:
    """A copy of a method under another name: TorchScript has no `super()`, and compiles by name."""
    return FunctionType(
        method.__code__, method.__globals__, name, method.__defaults__, method.__closure__
    )


class ContextAfter(nn.Module):
    """What the classes of this file share: the context module runs on the output.

    A class has `before_context`, the forward method of the class it derives from.
    """

    if TYPE_CHECKING:  # TorchScript reads the annotations of a class and does not know a Module
        context: nn.Module
        before_context: Callable[[torch.Tensor], torch.Tensor]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) as the class it derives from, and add context to that."""
        return self.context(self.before_context(x))


class ContextBasicBlock(ContextAfter, BasicBlock):
    """Detectron2's block of ResNet-18 and -34, and a context module on its output."""

    before_context = renamed(BasicBlock.forward, "before_context")


class ContextBottleneckBlock(ContextAfter, BottleneckBlock):
    """Detectron2's block of ResNet-50 and deeper, and a context module on its output."""

    before_context = renamed(BottleneckBlock.forward, "before_context")


class ContextDeformBottleneckBlock(ContextAfter, DeformBottleneckBlock):
    """Detectron2's block with deformable convolution, and a context module on its output."""

    before_context = renamed(DeformBottleneckBlock.forward, "before_context")


class ContextDFNetBlock(ContextAfter, DFNetBlock):
    """DFNet's block and a context module on its output."""

    before_context = renamed(DFNetBlock.forward, "before_context")


class ContextConv2d(ContextAfter, Conv2d):
    """The last convolution of a residual branch, its norm, and a context module."""

    before_context = renamed(Conv2d.forward, "before_context")


class ContextResidual(ContextAfter, Residual):
    """The end of DFNet's residual branch, and a context module."""

    before_context = renamed(Residual.forward, "before_context")


CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    BasicBlock: ContextBasicBlock,
    BottleneckBlock: ContextBottleneckBlock,
    DeformBottleneckBlock: ContextDeformBottleneckBlock,
    DFNetBlock: ContextDFNetBlock,
    Conv2d: ContextConv2d,
    Residual: ContextResidual,
}


def with_context(module: nn.Module, context: nn.Module) -> nn.Module:
    """A module that runs `context` on the output of another one, with the same parameters.

    Args:
        module: of one of the `CLASSES`; not to be used afterwards.
        context: maps (N, C, H, W) to the same shape.

    Returns:
        The module to take its place.

    Raises:
        ValueError: a module of another class.
    """
    if type(module) not in CLASSES:
        raise ValueError(
            f"MODEL.CONTEXT cannot stand in a {type(module).__name__}: choose one of "
            f"{', '.join(kind.__name__ for kind in CLASSES)}"
        )
    kind = CLASSES[type(module)]
    twin = kind.__new__(kind)
    twin.__dict__.update(module.__dict__)
    twin.context = context
    return twin
