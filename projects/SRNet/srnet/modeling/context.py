"""The context module of `MODEL.CONTEXT`, the same node in backbones and heads."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ASPP, Conv2d, get_norm
from detectron2.utils.registry import Registry
from torch import nn

from srnet import layers
from srnet.layers import (
    CBAM,
    AsymmetricPyramidNonLocal,
    CompactGeneralizedNonLocal,
    ContextEncoding,
    DoubleAttention,
    DualAttention,
    EMAttention,
    GlobalContext,
    GlobalReasoning,
    NonLocal,
    PyramidPooling,
    RecurrentCrissCrossAttention,
    SqueezeExcitation,
    SqueezeReasoning,
    SqueezeReasoningGate,
)
from srnet.layers.channels import divide_channels
from srnet.ranges import RANGES, names_in

CONTEXT_REGISTRY = Registry("CONTEXT")
CONTEXT_REGISTRY.__doc__ = """
Builders of context modules. A builder is called with the `MODEL.CONTEXT` node, the channels of the
map and the name of the surrounding norm. It returns a module that maps (N, C, H, W) to
(N, C', H, W); where C' is not C, the module has it as `out_channels`. `MODEL.CONTEXT.NAME` takes
the builder's name.
"""

CONTEXT_NAMES = names_in(
    lambda: [name for name, _ in CONTEXT_REGISTRY], "registered context module", empty=True
)


def build_context(
    context: CfgNode, channels: int, *, norm: str = "BN", key: str = "NAME"
) -> nn.Module | None:
    """Build the module that `MODEL.CONTEXT` names.

    Args:
        context: the `MODEL.CONTEXT` node.
        channels: C of the map the module works on.
        norm: the norm of the surrounding head or backbone, for modules whose convolutions have one.
        key: the key of the node that names the module, "NAME" or "GATE".

    Returns:
        The module, or None where the name is empty.

    Raises:
        ValueError: no module of that name; the message lists the known ones.
    """
    build = context_builder(context, norm=norm, key=key)
    return None if build is None else build(channels)


def context_builder(
    context: CfgNode, *, norm: str = "BN", key: str = "NAME"
) -> Callable[[int], nn.Module] | None:
    """What makes the module that `MODEL.CONTEXT` names from its channels; None for no name.

    Arguments and errors as :func:`build_context`.
    """
    name = context[key]
    if not name:
        return None
    CONTEXT_NAMES.check(f"MODEL.CONTEXT.{key}", name)
    build = CONTEXT_REGISTRY.get(name)
    return lambda channels: build(context, channels, norm)


def context_channels(context: nn.Module | None, channels: int) -> int:
    """Channels that come out of a context module (or of none) for `channels` going in."""
    return getattr(context, "out_channels", channels)


def fold_choice(context: CfgNode) -> bool | None:
    """The `fold` of :class:`ContextConv` that `MODEL.CONTEXT.FOLD` names.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    RANGES["MODEL.CONTEXT.FOLD"].check("MODEL.CONTEXT.FOLD", context.FOLD)
    return {"auto": None, "always": True, "never": False}[context.FOLD]


class ContextConv(layers.ContextConv):
    """`srnet.layers.ContextConv` that also folds Detectron2's convolutions.

    Those contain what follows them, `norm` and `activation`.
    """

    conv_types = (nn.Conv2d, Conv2d)

    def after_conv(self, conv: nn.Module, y: torch.Tensor) -> torch.Tensor:
        """The norm and the activation of a Detectron2 convolution."""
        if isinstance(conv, Conv2d):
            y = y if conv.norm is None else conv.norm(y)
            y = y if conv.activation is None else conv.activation(y)
        return y


def norm_layer(norm: str) -> Callable[[int], nn.Module]:
    """A callable that makes the norm of a Detectron2 name, the identity for "", from channels."""
    return lambda channels: get_norm(norm, channels) if norm else nn.Identity()


@CONTEXT_REGISTRY.register()
def sr(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Squeeze Reasoning."""
    for key in ("NORM", "FOLD"):
        RANGES[f"MODEL.CONTEXT.{key}"].check(f"MODEL.CONTEXT.{key}", context[key])
    norms = {"": None, "LN": nn.LayerNorm}
    return SqueezeReasoning(
        channels,
        reduction=context.REDUCTION,
        num_nodes=context.NUM_NODES,
        squeeze=context.SQUEEZE,
        reasoning=context.REASONING,
        norm=norms[context.NORM],
    )


@CONTEXT_REGISTRY.register()
def sr_gate(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """The classification form of SR."""
    return SqueezeReasoningGate(channels, num_nodes=context.NUM_NODES)


@CONTEXT_REGISTRY.register()
def se(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Squeeze-and-Excitation."""
    return SqueezeExcitation(channels)


@CONTEXT_REGISTRY.register()
def cbam(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Convolutional block attention module."""
    return CBAM(channels, norm=norm_layer(norm))


@CONTEXT_REGISTRY.register()
def gc(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Global context block of GCNet."""
    return GlobalContext(channels)


@CONTEXT_REGISTRY.register()
def nl(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Non-local block, embedded Gaussian."""
    return NonLocal(channels, reduction=context.REDUCTION)


@CONTEXT_REGISTRY.register()
def a2(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Double attention block of A2-Nets."""
    return DoubleAttention(channels, reduction=context.REDUCTION)


@CONTEXT_REGISTRY.register()
def cgnl(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Compact generalized non-local block, dot product."""
    return CompactGeneralizedNonLocal(channels, reduction=context.REDUCTION)


@CONTEXT_REGISTRY.register()
def rcca(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Recurrent criss-cross attention of CCNet, at the widths of Table IV."""
    width = divide_channels(channels, context.REDUCTION)
    return RecurrentCrissCrossAttention(channels, key_channels=width, value_channels=width)


@CONTEXT_REGISTRY.register()
def danet(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Position and channel attention of DANet."""
    return DualAttention(channels)


@CONTEXT_REGISTRY.register()
def encoding(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Context encoding module of EncNet."""
    return ContextEncoding(channels, norm=norm_layer(norm))


@CONTEXT_REGISTRY.register()
def ann(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Asymmetric pyramid non-local block of ANN."""
    return AsymmetricPyramidNonLocal(channels, reduction=context.REDUCTION, norm=norm_layer(norm))


@CONTEXT_REGISTRY.register()
def emau(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Expectation-maximization attention unit of EMANet."""
    return EMAttention(channels, norm=norm_layer(norm))


@CONTEXT_REGISTRY.register()
def glore(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Global reasoning unit of GloRe."""
    return GlobalReasoning(channels, norm=norm_layer(norm))


@CONTEXT_REGISTRY.register()
def psp(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Pyramid pooling, down to a quarter of the channels.

    On 2048 channels and with a kernel of 3 it has Table IV's 23.07 M parameters.
    """
    RANGES["MODEL.CONTEXT.PSP_KERNEL"].check("MODEL.CONTEXT.PSP_KERNEL", context.PSP_KERNEL)
    return PyramidPooling(channels, kernel_size=context.PSP_KERNEL, norm=norm_layer(norm))


@CONTEXT_REGISTRY.register()
def aspp(context: CfgNode, channels: int, norm: str) -> nn.Module:
    """Detectron2's atrous spatial pyramid pooling, to the 256 channels of DeepLabV3.

    On 2048 channels it has Table IV's 15.54 M parameters.
    """
    module = ASPP(channels, 256, context.ASPP_DILATIONS, norm=norm, activation=F.relu)
    module.out_channels = 256
    return module
