"""The four 1x1 convolutions that the non-local block and its relatives consist of."""

from torch import nn

from ..channels import divide_channels
from ..initialization import zero_parameters


def projections(channels: int, reduction: int) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """Make three convolutions of C to C / reduction channels, and one back.

    The last one starts at zero, so a module that adds its output to the map starts as the identity.
    The others keep PyTorch's own start.

    Raises:
        ValueError: ``reduction`` does not divide ``channels``.
    """
    reduced = divide_channels(channels, reduction)
    first, second, third = (nn.Conv2d(channels, reduced, 1) for _ in range(3))
    back = nn.Conv2d(reduced, channels, 1)
    zero_parameters(back)
    return first, second, third, back
