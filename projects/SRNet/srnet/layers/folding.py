"""Folded inference: the convolution after SR takes over its reconstruction.

At inference Eq. 7 is linear in the map, ``y = (I + W_R diag(g) W_b) x`` with one vector g an image.
So a convolution of y is a convolution of x with another weight, which is exact, and neither y nor
b, c and their products are ever computed. Making the weight costs the same on every map, so on
small ones the plain form is the cheaper. Half of that cost, the product of the convolution's weight
with W_R, is the same for all images: where no gradient is asked for it is computed once and kept.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import nn

from .precision import no_autocast, widen
from .squeeze_reasoning import SqueezeReasoning

PRODUCTS_PER_ELEMENT = 16
"""Multiply-adds that take as long as moving one number to or from memory.

Measured on a core of a server's CPU in fp32: 75 G multiply-adds and 4.4 G numbers a second. A GPU
with 30 T and 4 TB/s has 30; twice the value moves the size at which both forms cost the same by
little, for it is the multiply-adds that decide.
"""


class Cost(NamedTuple):
    """What a way of computing takes, apart from what all ways have in common."""

    products: int
    """Multiply-adds."""
    elements: int
    """Numbers read from and written to memory by what is not a matrix product, and outputs."""


def total(cost: Cost) -> int:
    """Both parts of a cost, in multiply-adds."""
    # Not a property of the tuple, which torch.compile of PyTorch 2.7 cannot trace.
    return cost.products + PRODUCTS_PER_ELEMENT * cost.elements


def reconstruction_costs(
    context: SqueezeReasoning, conv: nn.Conv2d, shape: tuple[int, int, int, int]
) -> tuple[Cost, Cost]:
    """Estimate what SR before a convolution costs, plain and folded.

    The convolution itself and the reasoning are the same in both and left out.

    Args:
        context: SR on C channels, P of them squeezed.
        conv: the convolution that follows, C -> O channels with a kernel of k x k.
        shape: (N, C, H, W) of the map.

    Returns:
        The cost of the plain and of the folded form. Plain: 1x1 convolutions to ``b``, ``c`` and
        back, their maps, and the sum with x. Folded: what squeezes x, and for the weight
        ``O k k C P`` multiply-adds for each image, and once more where that is not kept.
    """
    images, channels, height, width = shape
    positions = images * height * width
    reduced = context.conv_b.out_channels
    rows = conv.weight.shape[0] * conv.weight[0, 0].numel()
    product = positions * channels * reduced
    is_ghp = context.conv_c is not None
    plain = Cost(
        products=(3 if is_ghp else 2) * product,
        # b: made, pooled, scaled and read again; for ghp c, and b * c. Then W_R's map and the sum.
        elements=positions * ((9 if is_ghp else 5) * reduced + 4 * channels),
    )
    weight = Cost(
        products=(images + (0 if keeps_products() else 1)) * rows * channels * reduced,
        # The permutation, the sum and the convolution's own copy.
        elements=6 * images * rows * channels,
    )
    squeeze = Cost(products=0, elements=positions * channels)
    if is_ghp and context.uses_moments():
        moments = images * channels**2
        products = positions * channels**2 * 10 // 16 + moments * reduced
        squeeze = Cost(products, elements=6 * moments)
    elif is_ghp:
        squeeze = Cost(products=2 * product, elements=6 * positions * reduced)
    folded = Cost(squeeze.products + weight.products, squeeze.elements + weight.elements)
    return plain, folded


def folded_weight(
    context: SqueezeReasoning, scales: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The weights that make of x what a convolution makes of SR's y.

    Args:
        context: the module, C channels.
        scales: (N, P), its :meth:`SqueezeReasoning.scales` of a map.
        weight: (O, C, k, k) of the convolution.

    Returns:
        (N, O, C, k, k), one weight an image, in the precision and memory format of `weight`.
    """
    out_channels, _, *kernel = weight.shape
    with no_autocast(weight.device):
        rows, through_r = _products(context, weight)
        to_x = widen(context.conv_b.weight.flatten(1)) * widen(scales).unsqueeze(2)
        images = len(to_x)
        folded = torch.baddbmm(
            rows.expand(images, -1, -1), through_r.expand(images, -1, -1), to_x
        ).to(weight.dtype)
    if len(rows) == out_channels:
        return folded[..., None, None]
    folded = folded.unflatten(1, (out_channels, *kernel)).permute(0, 1, 4, 2, 3)
    # What the permutation leaves is channels last, for which a convolution would convert the map.
    return folded.contiguous() if weight.is_contiguous() else folded


class _Kept(NamedTuple):
    """What was computed of two weights, and how to see that they are still the same."""

    weights: tuple[torch.Tensor, torch.Tensor]
    """Detached, so that their memory is not given to others while it is compared."""
    stamps: list[tuple[int, int, torch.dtype]]
    products: tuple[torch.Tensor, torch.Tensor]


_KEPT: WeakKeyDictionary[SqueezeReasoning, _Kept] = WeakKeyDictionary()


def keeps_products() -> bool:
    """Whether the product of two weights is kept: not for autograd, nor in a recorded graph."""
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return not (recorded or torch.is_grad_enabled())


def _products(context: SqueezeReasoning, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight with a row for each output channel and place in the kernel, and that times W_R.

    Both are kept for the next image, (O k k, C) and (O k k, P), 14 MB for the paper's head. They
    are computed again after training, and when one of the weights is another tensor or was written
    to as far as PyTorch counts, which is not so for writes to `weight.data`.
    """
    weights = (weight, context.conv_r.weight)
    if not keeps_products() or any(w.is_inference() for w in weights):
        return _multiply(*weights)
    stamps = [(w.data_ptr(), w._version, w.dtype) for w in weights]
    kept = _KEPT.get(context)
    if kept is None or kept.stamps != stamps:
        detached = (weights[0].detach(), weights[1].detach())
        kept = _KEPT[context] = _Kept(detached, stamps, _multiply(*weights))
    return kept.products


def _multiply(weight: torch.Tensor, weight_r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = widen(weight).permute(0, 2, 3, 1).reshape(-1, weight.shape[1])
    return rows, rows @ widen(weight_r.flatten(1))


def conv_after_context(context: nn.Module | None, conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Compute ``conv(context(x))``, at inference folded where that is cheaper.

    Folded are :class:`SqueezeReasoning` and a convolution with one group and zero padding; all else
    runs as it stands. `SqueezeReasoning.fold` overrides the choice. It is made by
    :func:`reconstruction_costs`, for each size of the map; a model that is exported for maps of
    any size folds, and one for batches of any size does not, as each image has a weight of its own
    (strict exporting cannot tell that from torch.compile, and refuses such batches).
    torch.jit.trace records the plain form.

    Args:
        context: a context module, None for none.
        conv: what follows it: a convolution, with Detectron2's `norm` and `activation` or without.
        x: (N, C, H, W).

    Returns:
        (N, O, H', W').
    """
    if context is None:
        return conv(x)
    if not folds(context, conv, x):
        if context.training and not torch.compiler.is_compiling():
            _KEPT.pop(context, None)
        return conv(context(x))
    weights = folded_weight(context, context.scales(x), conv.weight)
    outputs = [
        F.conv2d(image.unsqueeze(0), weight, conv.bias, conv.stride, conv.padding, conv.dilation)
        for image, weight in zip(x, weights, strict=True)
    ]
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    for name in ("norm", "activation"):
        function = getattr(conv, name, None)
        if function is not None:
            y = function(y)
    return y


def folds(context: nn.Module, conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Whether :func:`conv_after_context` folds; its docstring has the rule."""
    if not isinstance(context, SqueezeReasoning) or context.training or x.numel() == 0:
        return False
    if conv.groups != 1 or conv.padding_mode != "zeros":
        return False
    if context.fold is not None:
        return context.fold
    if torch.jit.is_tracing():
        return False
    # torch.compile, which also says that it exports, makes a graph for each outcome of the rest.
    if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():
        any_batch, any_size = (is_symbolic(x.shape[:1]), is_symbolic(x.shape[2:]))
        if any_batch or any_size:
            return not any_batch
    plain, folded = reconstruction_costs(context, conv, x.shape)
    return total(folded) < total(plain)


def is_symbolic(lengths: torch.Size) -> bool:
    """Whether one of the lengths is a variable of an exported program."""
    return any(isinstance(length, torch.SymInt) for length in lengths)
