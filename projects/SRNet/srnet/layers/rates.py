"""How fast a device multiplies, next to how fast it moves numbers, for choices between two forms.

SR has exact forms that differ in what they compute by convolutions and what by matrix products
(`@`). On a CPU core both run at one rate. On a GPU fp32 convolutions use TF32 tensor cores by
default and fp32 `@` does not, so a product is several times cheaper in a convolution.
"""

from typing import NamedTuple

import torch

from .precision import is_autocast_on

CPU = 16
"""Multiply-adds of a CPU core while it moves one fp32 number to or from memory.

Measured on a core of a server in fp32: 75 G multiply-adds and 4.4 G numbers a second. Twice the
value moves the size of map at which two forms cost the same by little.
"""
CUDA_CORES = 22
"""The same of a GPU in fp32. Measured on an H200 (MODEL_ZOO.md, "The modules on a GPU"): 22.1 T
multiply-adds and 1.02 T numbers a second. By the data sheets an A100 has 25 and an H100 40."""
TENSOR_CORES = 150
"""The same in TF32 with numbers of 4 bytes and in half precision with 2. Measured on an H200: 149
and 147 (151 T and 288 T multiply-adds a second)."""


class Rates(NamedTuple):
    """Multiply-adds that take as long as moving one number of a map to or from memory."""

    convolution: int
    """In a convolution of the map."""
    matmul: int
    """In a matrix product, which is computed in at least fp32."""


@torch.compiler.assume_constant_result  # the settings that this reads are the device's
def rates(device_type: str, is_half: bool) -> Rates:
    """The rates of a device.

    Args:
        device_type: ``"cuda"`` for a GPU; every other type counts as a CPU.
        is_half: whether convolutions of the map run in half precision.
    """
    if device_type != "cuda":
        return Rates(CPU, CPU)
    of_convolution = TENSOR_CORES if is_half or uses_tf32("convolution") else CUDA_CORES
    of_matmul = TENSOR_CORES if uses_tf32("matmul") else CUDA_CORES
    if is_half:  # a number has 2 bytes, so there are fewer products to one that is moved
        of_matmul //= 2
    return Rates(of_convolution, of_matmul)


def rates_of(x: torch.Tensor) -> Rates:
    """The rates for a map, by its device, its precision and autocast."""
    is_half = x.dtype in (torch.float16, torch.bfloat16) or is_autocast_on(x.device)
    return rates(x.device.type, is_half)


def uses_tf32(operation: str) -> bool:
    """Whether ``"convolution"`` or ``"matmul"`` of fp32 operands uses TF32 on a GPU.

    PyTorch has an old and, from 2.9 on, a new way to set it, and refuses to read the old one after
    the new one was written.
    """
    backend = torch.backends.cudnn if operation == "convolution" else torch.backends.cuda.matmul
    try:
        return bool(backend.allow_tf32)
    except RuntimeError:
        of_operation = backend.conv if operation == "convolution" else backend
        return str(of_operation.fp32_precision) == "tf32"
