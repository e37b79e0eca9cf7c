"""Multiply-adds, as they are counted everywhere in this project."""

from collections.abc import Callable

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from srnet.layers.context.attention import FLOP_HANDLES


def count_multiply_adds(module: nn.Module, x: torch.Tensor, **handles: Callable) -> dict[str, int]:
    """Count the multiply-adds of a module at inference.

    Args:
        module: maps one tensor to one tensor.
        x: its input.
        handles: what else is counted beside fvcore's operations and attention, as
            `FlopCountAnalysis.set_op_handle` takes it.

    Returns:
        Multiply-adds of each kind of operation.
    """
    return dict(prepare_count(FlopCountAnalysis(module.eval(), x), **handles).by_operator())


def prepare_count(flops: FlopCountAnalysis, **handles: Callable) -> FlopCountAnalysis:
    """Make fvcore count attention too, and not warn of what is not counted."""
    flops.set_op_handle(**FLOP_HANDLES, **handles)
    return flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
