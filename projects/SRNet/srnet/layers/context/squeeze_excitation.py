"""Squeeze-and-Excitation (Hu et al., CVPR 2018), as torchvision has it."""

from torchvision import ops

from ..channels import divide_channels


class SqueezeExcitation(ops.SqueezeExcitation):
    """Scale each channel by a gate that two layers compute from the means of all channels.

    ``y = x * sigmoid(W_2 ReLU(W_1 mean(x)))``: torchvision's module (and its parameter names) with
    the paper's reduction for the width between the layers. Table IV counts 0.03 M parameters and
    9.47 MFLOPs at 512 channels; half of the latter is the scaling, a multiplication that fvcore
    leaves out.

    Args:
        channels: C, the channels of the map.
        reduction: the layers map C -> C / reduction -> C.

    Shape:
        (N, C, H, W) -> (N, C, H, W)

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """

    def __init__(self, channels: int, *, reduction: int = 16):
        super().__init__(channels, divide_channels(channels, reduction))
