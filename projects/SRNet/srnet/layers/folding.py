"""Folded inference: the convolution after SR takes over its reconstruction.

At inference Eq. 7 is linear in the map, ``y = (I + W_R diag(g) W_b) x`` with one vector g an image.
So a convolution of y is a convolution of x with another weight, which is exact, and neither y nor
b, c and their products are ever computed. Making the weight costs the same on every map, so on
small ones the plain form is the cheaper. This file has the weight and the costs;
`context_conv.py` has the module that chooses.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .precision import no_autocast, widen
from .rates import Rates
from .squeeze_reasoning import SqueezeReasoning


class Cost(NamedTuple):
    """What a way of computing takes, apart from what all ways have in common."""

    convolved: int
    """Multiply-adds in convolutions."""
    multiplied: int
    """Multiply-adds in matrix products, which run in at least fp32."""
    elements: int
    """Numbers read from and written to memory by what is neither, and outputs."""


def total(cost: Cost, rates: Rates) -> float:
    """A cost in the time that moving one number takes."""
    # Not a property of the tuple, which torch.compile of PyTorch 2.7 cannot trace.
    products = cost.convolved / rates.convolution + cost.multiplied / rates.matmul
    return products + cost.elements


def reconstruction_costs(
    context: SqueezeReasoning,
    conv: nn.Conv2d,
    shape: Sequence[int],
    *,
    keeps_products: bool = False,
) -> tuple[Cost, Cost]:
    """Estimate what SR before a convolution costs, plain and folded.

    The convolution itself and the reasoning are the same in both and left out.

    Args:
        context: SR on C channels, P of them squeezed.
        conv: the convolution that follows, C -> O channels with a kernel of k x k.
        shape: (N, C, H, W) of the map.
        keeps_products: whether the product of both weights is there already.

    Returns:
        The cost of the plain and of the folded form. Plain: 1x1 convolutions to ``b``, ``c`` and
        back, their maps, and the sum with x. Folded: what squeezes x, and for the weight
        ``O k k C P`` multiply-adds for each image, and once more for the product of both weights.
    """
    images, channels, height, width = shape
    positions = images * height * width
    reduced = context.conv_b.out_channels
    rows = conv.weight.shape[0] * conv.weight[0, 0].numel()
    product = positions * channels * reduced
    is_ghp = context.conv_c is not None
    plain = Cost(
        convolved=(3 if is_ghp else 2) * product,
        multiplied=0,
        # b: made, pooled, scaled and read again; for ghp c, and b * c. Then W_R's map and the sum.
        elements=positions * ((9 if is_ghp else 5) * reduced + 4 * channels),
    )
    weight = Cost(
        convolved=0,
        multiplied=(images + (0 if keeps_products else 1)) * rows * channels * reduced,
        # The permutation, the sum and the convolution's own copy.
        elements=6 * images * rows * channels,
    )
    squeeze = Cost(convolved=0, multiplied=0, elements=positions * channels)
    if is_ghp and context.uses_moments():
        moments = images * channels**2
        multiplied = positions * channels**2 * 10 // 16 + moments * reduced
        squeeze = Cost(convolved=0, multiplied=multiplied, elements=6 * moments)
    elif is_ghp:
        squeeze = Cost(convolved=2 * product, multiplied=0, elements=6 * positions * reduced)
    folded = Cost(*(a + b for a, b in zip(squeeze, weight, strict=True)))
    return plain, folded


class Products(NamedTuple):
    """What the folded weight takes of two weights alone, for a kernel of k x k; at least fp32."""

    rows: torch.Tensor
    """(O k k, C): the convolution's weight, a row for each output channel and place in the kernel.
    """
    through_r: torch.Tensor
    """(O k k, P): the rows times W_R."""


def multiply_weights(weight: torch.Tensor, weight_r: torch.Tensor) -> Products:
    """Multiply the (O, C, k, k) weight of a convolution with the (C, P, 1, 1) of W_R."""
    with no_autocast(weight.device):
        rows = widen(weight).permute(0, 2, 3, 1).reshape(-1, weight.shape[1])
        return Products(rows, rows @ widen(weight_r.flatten(1)))


def folded_weight(
    context: SqueezeReasoning, scales: torch.Tensor, weight: torch.Tensor, products: Products
) -> torch.Tensor:
    """The weights that make of x what a convolution makes of SR's y.

    Args:
        context: the module, C channels.
        scales: (N, P), its :meth:`SqueezeReasoning.scales` of a map.
        weight: (O, C, k, k) of the convolution.
        products: those of `weight` and W_R.

    Returns:
        (N, O, C, k, k), one weight an image, in the precision and memory format of `weight`.
    """
    out_channels, _, *kernel = weight.shape
    with no_autocast(weight.device):
        to_x = widen(context.conv_b.weight.flatten(1)) * widen(scales).unsqueeze(2)
        images = len(to_x)
        rows, through_r = (matrix.expand(images, -1, -1) for matrix in products)
        folded = torch.baddbmm(rows, through_r, to_x).to(weight.dtype)
    if folded.shape[1] == out_channels:
        return folded[..., None, None]
    folded = folded.unflatten(1, (out_channels, *kernel)).permute(0, 1, 4, 2, 3)
    # What the permutation leaves is channels last, for which a convolution would convert the map.
    return folded.contiguous() if weight.is_contiguous() else folded
