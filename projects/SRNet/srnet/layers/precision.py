"""At least single precision for what is summed over the positions of a map.

Such sums overflow fp16 and round in bf16, and autocast casts the operands of a matrix product to
half precision whatever they are, so it is off in here.
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def widen(x: torch.Tensor) -> torch.Tensor:
    """Cast half precision to fp32 and leave the rest as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def no_autocast(device: torch.device) -> AbstractContextManager:
    """A context in which the operations on a device keep the precision of their operands."""
    if not has_autocast(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@torch.compiler.assume_constant_result  # torch.compile cannot look into PyTorch's function
def has_autocast(device_type: str) -> bool:
    """Whether there is an autocast for a type of device; for "meta" there is none."""
    return torch.amp.is_autocast_available(device_type)


def is_autocast_on(device: torch.device) -> bool:
    """Whether operations on a device cast their operands by themselves."""
    return has_autocast(device.type) and torch.is_autocast_enabled(device.type)


def narrow_like(vector: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Cast what was summed in at least fp32 to the precision of a map and of the weights for it.

    Under autocast the weights are fp32 and a mean of products can be beyond fp16: it stays as it is
    there. The precision is not read from a weight, which may be wrapped or computed.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102  TorchScript skips what stands under this
        if is_autocast_on(x.device):
            return vector
    return vector.to(x.dtype)


def wide_matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrix product of two tensors (..., L, M) and (..., M, P), computed in at least fp32."""
    if torch.jit.is_scripting():
        return torch.matmul(widen(a), widen(b))
    with no_autocast(a.device):
        return torch.matmul(widen(a), widen(b))


def mean_over_positions(b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the positions of ``b``, or of ``b * c``: (..., P, H, W) -> (..., P).

    The sum over a large map overflows fp16 and rounds in bf16, so half precision is accumulated in
    fp32, which is also what comes back.
    """
    dtype = torch.promote_types(b.dtype, torch.float32)
    if c is None:
        return b.mean((-2, -1), dtype=dtype)
    return (b.to(dtype) * c.to(dtype)).mean((-2, -1))
