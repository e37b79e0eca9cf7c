"""The training step of SR: two exact forms that keep no map for the backward pass but their input.

Autograd keeps what a convolution or a product took: ``x``, ``b``, ``c`` and ``b * g``, which is
``x`` and another map of its size with C / 2 squeezed channels. Both forms keep ``x``, which is held
anyway as the output of the layer before; the dense form keeps a C x C matrix an image besides.

- Dense: `SqueezeDense` and `ReconstructDense`. With S, the second moments of the channels, the
  vector is the diagonal of ``W_b S W_c^T``, and ``y = (I + W_R diag(g) W_b) x`` is one product.
  No map of ``b`` or ``c`` is ever made. For ghp 4.625 C^2 L multiply-adds a step, L = H W.
- Low rank: `Squeeze` and `Reconstruct`. ``b`` and ``c`` come from one product and are computed once
  more in the backward pass: 11 C P L multiply-adds a step for ghp.

:func:`takes_dense` chooses. The backward passes consist of differentiable operations on the inputs,
so autograd finds the higher derivatives by itself.

On a GPU small maps are left to autograd, see :func:`saves_enough`.

The operands have one precision, :func:`cast_for_autocast` sees to that. Neither form is used under
torch.compile, which finds equal products by itself and decides what is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from .precision import is_autocast_on, mean_over_positions, no_autocast
from .rates import rates_of

SMALL_ON_GPU = 64 * 2**20
"""Bytes of a map."""


class SqueezeDense(torch.autograd.Function):
    """Squeeze by the second moments: ``apply(x, weight_b, weight_c) -> (vector, x)``.

    The vector (N, P) is the diagonal of ``W_b S W_c^T``, with the (P, C) weights and S (N, C, C).
    What follows takes the second output for x: so its gradient arrives here, and the product that
    the squeeze adds to it goes onto it without another map.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight_b: torch.Tensor, weight_c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector and the same map."""
        with no_autocast(x.device):
            moments = second_moments(x)
            ctx.save_for_backward(x, weight_b, weight_c, moments)
            return (weight_b @ moments * weight_c).sum(2), x

    @staticmethod
    def backward(
        ctx: Any, grad_vector: torch.Tensor, grad_x: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and both weights."""
        x, weight_b, weight_c, moments = ctx.saved_tensors
        grad_b = grad_c = None
        factors = grad_vector.unsqueeze(2)
        with no_autocast(x.device):
            if torch.is_grad_enabled():  # a derivative of this one goes through the moments to x
                moments = second_moments(x)
            if ctx.needs_input_grad[0]:
                product = (weight_b.t() * grad_vector.unsqueeze(1)) @ weight_c
                symmetric = (product + product.transpose(1, 2)) / (x.shape[2] * x.shape[3])
                grad_x = multiply_positions(symmetric, x, plus=grad_x)
            if ctx.needs_input_grad[1]:
                grad_b = (factors * (weight_c @ moments)).sum(0)
            if ctx.needs_input_grad[2]:
                grad_c = (factors * (weight_b @ moments)).sum(0)
        return grad_x, grad_b, grad_c


class ReconstructDense(torch.autograd.Function):
    """Eq. 7 as one product: ``apply(x, scales, weight_b, weight_r) -> (I + W_R diag(g) W_b) x``.

    The weights are (P, C) and (C, P), the scales g (N, P). The matrices are made again in the
    backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scales: torch.Tensor,
        weight_b: torch.Tensor,
        weight_r: torch.Tensor,
    ) -> torch.Tensor:
        """Return the map y (N, C, H, W)."""
        ctx.save_for_backward(x, scales, weight_b, weight_r)
        with no_autocast(x.device):
            return multiply_positions(reconstruction(scales, weight_b, weight_r), x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, the scales and both weights."""
        x, scales, weight_b, weight_r = ctx.saved_tensors
        grad_x = grad_scales = grad_b = grad_r = None
        factors = scales.unsqueeze(2)
        with no_autocast(x.device):
            if ctx.needs_input_grad[0]:
                matrices = reconstruction(scales, weight_b, weight_r).transpose(1, 2)
                grad_x = multiply_positions(matrices, grad)
            if any(ctx.needs_input_grad[1:]):
                of_matrices = grad.flatten(2) @ x.flatten(2).transpose(1, 2)
                of_scaled = weight_r.t() @ of_matrices
                grad_scales = (of_scaled * weight_b).sum(2)
                grad_b = (of_scaled * factors).sum(0)
                grad_r = (of_matrices @ (factors * weight_b).transpose(1, 2)).sum(0)
        return grad_x, grad_scales, grad_b, grad_r


class Squeeze(torch.autograd.Function):
    """Squeeze a map: ``apply(x, weight_b, weight_c) -> (vector, b, b_and_c)``.

    Args:
        x: (N, C, H, W).
        weight_b: (P, C, 1, 1).
        weight_c: the same, or None for gap.

    Returns:
        The mean of ``b * c`` (Eq. 4), or of ``b`` without ``weight_c``: (N, P), in at least fp32;
        ``b`` (N, P, H, W); and for ghp ``b`` above ``c``.

    The last output's "gradient" is no gradient: `Reconstruct` computes this map again in its
    backward pass and hands it back through here, for both backward passes want it. It is an
    operation on the inputs like all others, so the higher derivatives go through it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight_b: torch.Tensor, weight_c: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the vector, b, and b and c."""
        ctx.save_for_backward(x, weight_b, weight_c)
        ctx.set_materialize_grads(False)
        with no_autocast(x.device):
            both = F.conv2d(x, stacked(weight_b, weight_c))
            if weight_c is None:
                return mean_over_positions(both), both, both.new_empty(0)
            b, c = both.chunk(2, dim=1)
            return mean_over_positions(b, c), b, both

    @staticmethod
    def backward(
        ctx: Any,
        grad_vector: torch.Tensor | None,
        grad_b: torch.Tensor | None,
        both: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x and both weights."""
        x, weight_b, weight_c = ctx.saved_tensors
        weight = stacked(weight_b, weight_c)
        grad_x = of_b = of_c = None
        with no_autocast(x.device):
            if grad_vector is None:
                grad_vector = torch.zeros_like(x[:, :1, 0, 0]).expand(-1, len(weight_b))
            # In fp16 the share of one position must not vanish before it meets its factor.
            share = (grad_vector / (x.shape[2] * x.shape[3]))[:, :, None, None]
            if grad_b is None:
                grad_b = torch.zeros_like(share)
            if weight_c is None:
                grad = (grad_b + share).to(x.dtype).expand(-1, -1, *x.shape[2:])
            else:
                if both is None:  # the vector alone is differentiated, as for higher derivatives
                    both = F.conv2d(x, weight)
                b, c = both.chunk(2, dim=1)
                grad = torch.cat([grad_b + c * share, b * share], dim=1).to(x.dtype)
            if ctx.needs_input_grad[0]:
                grad_x = conv2d_input(x.shape, weight, grad)
            if any(ctx.needs_input_grad[1:]):
                of_b, *rest = conv2d_weight(x, weight.shape, grad).split(len(weight_b))
                of_c = rest[0] if rest else None
        return grad_x, of_b, of_c


class Reconstruct(torch.autograd.Function):
    """Scale and expand: ``apply(b, b_and_c, scales, weight_r, x, weight_b, weight_c)`` (Eq. 7).

    Returns ``W_R (b * scales)``. The first two are outputs of :class:`Squeeze` of ``x`` and the
    weights, and are computed from these again in the backward pass. The gradient goes to ``b``; to
    ``x`` and the weights it goes from there, by :class:`Squeeze`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        b: torch.Tensor,
        both: torch.Tensor,
        scales: torch.Tensor,
        weight_r: torch.Tensor,
        x: torch.Tensor,
        weight_b: torch.Tensor,
        weight_c: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the map (N, C, H, W) that Eq. 7 adds to x."""
        ctx.save_for_backward(scales, weight_r, x, weight_b, weight_c)
        with no_autocast(b.device):
            return F.conv2d(b * scales[:, :, None, None], weight_r)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of b, the scales and the weight, and the map for `Squeeze`."""
        scales, weight_r, x, weight_b, weight_c = ctx.saved_tensors
        needs_b, _, needs_scales, needs_r = ctx.needs_input_grad[:4]
        needs_both = needs_b and weight_c is not None
        reduced = scales.shape[1]
        factors = scales[:, :, None, None]
        grad_b = both = grad_scales = grad_r = None
        with no_autocast(x.device):
            if needs_both or needs_scales or needs_r:
                both = F.conv2d(x, stacked(weight_b, weight_c) if needs_both else weight_b)
                b = both[:, :reduced]
            if needs_r:
                grad_r = conv2d_weight(b * factors, weight_r.shape, grad)
            if needs_b or needs_scales:
                scaled = conv2d_input((len(x), reduced, *x.shape[2:]), weight_r, grad)
                if needs_scales:
                    positions = x.shape[2] * x.shape[3]
                    grad_scales = (mean_over_positions(scaled, b) * positions).to(scales.dtype)
                if needs_b:
                    grad_b = scaled * factors
        return grad_b, both if needs_both else None, grad_scales, grad_r, None, None, None


def stacked(weight_b: torch.Tensor, weight_c: torch.Tensor | None) -> torch.Tensor:
    """One weight for one product: W_b above W_c, or W_b."""
    return weight_b if weight_c is None else torch.cat([weight_b, weight_c])


def reconstruction(
    scales: torch.Tensor, weight_b: torch.Tensor, weight_r: torch.Tensor
) -> torch.Tensor:
    """The matrices I + W_R diag(g) W_b (N, C, C) of Eq. 7, for g (N, P), (P, C) and (C, P)."""
    identity = torch.eye(len(weight_r), dtype=weight_r.dtype, device=weight_r.device)
    return identity + weight_r @ (scales.unsqueeze(2) * weight_b)


def second_moments(x: torch.Tensor, *, blocks: int = 4) -> torch.Tensor:
    """Means over the positions of the products of all pairs of channels.

    The matrix is symmetric: a block of rows is multiplied with itself and those below it alone,
    for 4 blocks 10 / 16 of the products.

    Args:
        x: (N, C, H, W).
        blocks: of rows.

    Returns:
        (N, C, C).
    """
    rows = x.flatten(2)
    step = -(-rows.shape[1] // blocks)
    parts: list[torch.Tensor] = []
    for first in range(0, rows.shape[1], step):
        products = rows[:, first : first + step] @ rows[:, first:].transpose(1, 2)
        # Left of the diagonal block: what the blocks above computed, mirrored.
        left = [part[:, :, first : first + step].transpose(1, 2) for part in parts]
        parts.append(torch.cat([*left, products], dim=2))
    return torch.cat(parts, dim=1) / rows.shape[2]


def multiply_positions(
    matrices: torch.Tensor, x: torch.Tensor, plus: torch.Tensor | None = None
) -> torch.Tensor:
    """Multiply the channels of each image with a matrix, in the map's memory format.

    Args:
        matrices: (N, C', C).
        x: (N, C, H, W).
        plus: (N, C', H, W), added to the product.

    Returns:
        (N, C', H, W).
    """
    rows = x.flatten(2)
    others = None if plus is None else plus.flatten(2)
    # In channels last a position is a row: the transposed product writes what is read next.
    transposed = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    if transposed:
        matrices, rows = rows.transpose(1, 2), matrices.transpose(1, 2)
        others = None if others is None else others.transpose(1, 2)
    product = matrices @ rows if others is None else torch.baddbmm(others, matrices, rows)
    if transposed:
        product = product.transpose(1, 2)
    return product.unflatten(2, x.shape[2:])


def takes_dense(x: torch.Tensor, reduced: int, *, is_ghp: bool) -> bool:
    """Whether the dense form of the training step is the cheaper, by the count of products.

    The dense form consists of matrix products and the low rank form of convolutions, which a device
    may compute at another rate. In half precision the moments and the C x C matrices would round
    (1e-3 in the vector for bf16), and in fp32 with them the maps would be copied: the low rank form
    stays.

    Args:
        x: (N, C, H, W), as the products take it.
        reduced: P.
        is_ghp: whether the squeeze is ghp, or gap.
    """
    if x.dtype not in (torch.float32, torch.float64):
        return False
    channels, positions = x.shape[1], x.shape[2] * x.shape[3]
    # What no position enters: W_R diag(g) W_b twice, its two gradients, and for ghp four products.
    matrices = (8 if is_ghp else 4) * channels**2 * reduced
    dense = (4.625 if is_ghp else 3) * channels**2 * positions + matrices
    low_rank = (11 if is_ghp else 7) * channels * reduced * positions
    at = rates_of(x)
    return dense / at.matmul < low_rank / at.convolution


def saves_enough(x: torch.Tensor) -> bool:
    """Whether what these forms save is worth starting twice as many operations as autograd does.

    On a CPU it is on every map. A GPU finishes small maps before the host has started the next
    operation: on an H200 a step of SR takes 2.1 to 3.1 ms in these forms and 1.0 to 2.1 ms with
    autograd, on all maps up to 8 x 512 x 96 x 96. Below this size autograd keeps 100 MB at most.
    """
    return x.device.type != "cuda" or x.numel() * x.element_size() >= SMALL_ON_GPU


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
