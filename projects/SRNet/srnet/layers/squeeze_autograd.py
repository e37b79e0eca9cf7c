"""Squeeze and reconstruction of SR that keep no map for the backward pass but their input.

Autograd keeps what a convolution or a product took: ``x``, ``b``, ``c`` and ``b * g``, which is
``x`` and another map of its size with C / 2 squeezed channels. ``b`` and ``c`` are one matrix
product away from ``x``, and ``x`` is held anyway as the output of the layer before. The functions
of this file keep ``x`` alone and compute ``b`` twice and ``c`` once more: nine products of a weight
with the map in a backward pass in place of six.

The backward passes consist of differentiable operations on the inputs, so autograd finds the higher
derivatives by itself.

They take operands of one precision, :func:`cast_for_autocast` sees to that. They are not used under
torch.compile, which finds equal products by itself and decides what is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from .precision import is_autocast_on, mean_over_positions, no_autocast


class Squeeze(torch.autograd.Function):
    """Squeeze a map into a vector: ``apply(x, weight_b, weight_c) -> (vector, b)``.

    ``b = W_b x``, and the vector (N, P) is the mean over the positions of ``b``, or of ``b * c``
    with ``c = W_c x`` (Eq. 4) where ``weight_c`` is not None; in at least fp32. The weights are
    (P, C, 1, 1).
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight_b: torch.Tensor, weight_c: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector and the map b (N, P, H, W)."""
        ctx.save_for_backward(x, weight_b, weight_c)
        with no_autocast(x.device):
            b = F.conv2d(x, weight_b)
            c = None if weight_c is None else F.conv2d(x, weight_c)
            return mean_over_positions(b, c), b

    @staticmethod
    def backward(
        ctx: Any, grad_vector: torch.Tensor, grad_b: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and both weights."""
        x, weight_b, weight_c = ctx.saved_tensors
        needs_x, needs_b, needs_c = ctx.needs_input_grad
        grad_x = grad_weight_b = grad_weight_c = None
        positions = x.shape[2] * x.shape[3]
        # In fp16 the share of one position must not vanish before it meets its factor.
        share = (grad_vector / positions)[:, :, None, None]
        with no_autocast(x.device):
            if weight_c is None:
                grad_b = (grad_b + share).to(x.dtype)
            else:
                if needs_x or needs_c:
                    grad_c = (F.conv2d(x, weight_b) * share).to(x.dtype)
                    if needs_x:
                        grad_x = conv2d_input(x.shape, weight_c, grad_c)
                    if needs_c:
                        grad_weight_c = conv2d_weight(x, weight_c.shape, grad_c)
                    del grad_c
                grad_b = (grad_b + F.conv2d(x, weight_c) * share).to(x.dtype)
            if needs_x:
                through_b = conv2d_input(x.shape, weight_b, grad_b)
                grad_x = through_b if grad_x is None else grad_x + through_b
            if needs_b:
                grad_weight_b = conv2d_weight(x, weight_b.shape, grad_b)
        return grad_x, grad_weight_b, grad_weight_c


class Reconstruct(torch.autograd.Function):
    """Scale and expand: ``apply(b, scales, weight_r, x, weight_b) -> W_R (b * scales)`` (Eq. 7).

    ``b`` is ``W_b x`` and is computed from ``x`` and ``weight_b`` again in the backward pass. The
    gradient goes to ``b``; to ``x`` and ``weight_b`` it goes from there, by :class:`Squeeze`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        b: torch.Tensor,
        scales: torch.Tensor,
        weight_r: torch.Tensor,
        x: torch.Tensor,
        weight_b: torch.Tensor,
    ) -> torch.Tensor:
        """Return the map (N, C, H, W) that Eq. 7 adds to x."""
        ctx.save_for_backward(scales, weight_r, x, weight_b)
        with no_autocast(b.device):
            return F.conv2d(b * scales[:, :, None, None], weight_r)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of b, the scales and the weight."""
        scales, weight_r, x, weight_b = ctx.saved_tensors
        needs_b, needs_scales, needs_r = ctx.needs_input_grad[:3]
        grad_b = grad_scales = grad_r = None
        factors = scales[:, :, None, None]
        with no_autocast(x.device):
            b = F.conv2d(x, weight_b) if needs_scales or needs_r else None
            if needs_r:
                grad_r = conv2d_weight(b * factors, weight_r.shape, grad)
            if needs_b or needs_scales:
                shape = (*x.shape[:1], weight_b.shape[0], *x.shape[2:])
                scaled = conv2d_input(shape, weight_r, grad)
                if needs_scales:
                    positions = x.shape[2] * x.shape[3]
                    grad_scales = (mean_over_positions(scaled, b) * positions).to(scales.dtype)
                if needs_b:
                    grad_b = scaled * factors
        return grad_b, grad_scales, grad_r, None, None


def cast_for_autocast(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Cast as autocast casts the operands of a convolution; leave all as they are without it."""
    device = tensors[0].device
    if not is_autocast_on(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device.type)
    return [t if t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def keeps_graph() -> bool:
    """Whether autograd keeps what a backward pass needs; not where operations are recorded."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled()
