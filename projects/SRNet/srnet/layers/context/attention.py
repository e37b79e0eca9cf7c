"""Dot-product attention between positions, and how fvcore is told to count it."""

import math
from typing import Any

import torch
import torch.nn.functional as F


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float = 1.0
) -> torch.Tensor:
    """Compute ``softmax(scale * query key^T) value`` with the kernels of PyTorch.

    They keep the (L x S) matrix of weights out of memory where the device has such a kernel, and
    form the weights in fp32 under half precision.

    Args:
        query: (N, L, E), one row a position that asks.
        key: (N, S, E), one row a position that is asked.
        value: (N, S, V), what those positions answer.
        scale: factor of the dot products; 1 in the non-local block.

    Returns:
        (N, L, V).
    """
    # The fast kernels want a dimension of heads and the channels of a position side by side.
    query, key, value = (tensor.unsqueeze(1).contiguous() for tensor in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).squeeze(1)


def as_positions(x: torch.Tensor) -> torch.Tensor:
    """View a map (N, C, H, W) as one row a position, (N, H W, C)."""
    return x.flatten(2).transpose(1, 2)


def as_map(positions: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """View rows (N, H W, C) as a map (N, C, H, W) of the height and width of ``like``."""
    return positions.transpose(1, 2).unflatten(2, like.shape[2:])


def count_attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of one attention, L x S x (E + V) a batch entry: a handle for fvcore."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


FLOP_HANDLES = {"aten::scaled_dot_product_attention": count_attention}
"""What ``fvcore.nn.FlopCountAnalysis.set_op_handle`` needs to count the modules of this package."""
