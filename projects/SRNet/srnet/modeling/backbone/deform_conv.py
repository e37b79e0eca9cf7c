"""Deformable convolution where Detectron2 has none."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.modeling.backbone import resnet
from torch import nn
from torchvision.ops import deform_conv2d


class TorchvisionDeformConv(nn.Module):
    """Detectron2's DeformConv and ModulatedDeformConv on torchvision's operator.

    Names and shapes of the parameters and the layout of the offsets are Detectron2's, so its
    checkpoints load.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: side of the kernel.
        stride: stride.
        padding: zero padding on each side.
        dilation: dilation.
        groups: groups of the convolution.
        deformable_groups: groups of channels with offsets of their own.
        bias: whether there is a bias.
        norm: a norm for the output.

    Shape:
        input (N, C, H, W), offset (N, 2 G k k, H', W') and mask (N, G k k, H', W') for G groups and
        a k x k kernel -> (N, C', H', W')
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
    ):
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.norm = norm
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(
        self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Convolve at positions moved by `offset`, weighted by `mask`."""
        x = deform_conv2d(
            x, offset, self.weight, self.bias, self.stride, self.padding, self.dilation, mask
        )
        return x if self.norm is None else self.norm(x)


@contextmanager
def available_deform_conv() -> Iterator[None]:
    """A scope in which Detectron2's builders of ResNets find a deformable convolution.

    Without its compiled `_C` Detectron2 has classes in their place that raise ImportError.
    torchvision's operator computes the same, on CPUs as well, and backwards too. Outside the scope
    Detectron2 is as it was.
    """
    if issubclass(resnet.DeformConv, nn.Module):
        yield
        return
    missing = resnet.DeformConv, resnet.ModulatedDeformConv
    resnet.DeformConv = resnet.ModulatedDeformConv = TorchvisionDeformConv
    try:
        yield
    finally:
        resnet.DeformConv, resnet.ModulatedDeformConv = missing
