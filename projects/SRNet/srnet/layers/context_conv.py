"""A context module and the convolution after it, at inference as one where that is cheaper."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .folding import Products, folded_weight, multiply_weights, reconstruction_costs, total
from .plain import is_plain, is_plain_tensor
from .rates import rates_of
from .squeeze_reasoning import SqueezeReasoning


class ContextConv(nn.Module):
    """Compute ``conv(context(x))``, at inference folded where that is cheaper (see `folding.py`).

    It has no parameters. Context and convolution are given at each call: they keep their places and
    names in the network, and may be wrapped or replaced there.

    Folded are a :class:`SqueezeReasoning` in eval mode and a convolution with one group and zero
    padding, both plain (see `plain.py`). Everything else runs as ``conv(context(x))``. Without
    `fold` the choice is made by :func:`reconstruction_costs`, for each size of the map; on a GPU
    for one image alone: a convolution for each image costs more there than it saves (1.5 times
    the plain form for 8 images of 96 x 96 on an H200). A model
    exported for maps of any size folds. One for batches of any size does not, as each image has
    a weight of its own (strict exporting cannot tell that from torch.compile, and refuses such
    batches). torch.jit.trace records the plain form.

    On a CPU the product of both weights is kept from call to call where no gradient is asked for.
    It is used only where both weights equal copies of those that it was made of, so it does not
    matter how weights are written. Comparing takes a tenth of the time that making it takes.

    Args:
        fold: whether to fold; None for where that is cheaper.
    """

    conv_types: tuple[type[nn.Conv2d], ...] = (nn.Conv2d,)
    """The convolutions that are folded. A subclass that adds one extends :meth:`after_conv`."""

    def __init__(self, fold: bool | None = None):
        super().__init__()
        self.fold = fold
        self._kept: _Kept | None = None

    @torch.jit.unused  # TorchScript has no modules as arguments: its callers run the plain form
    def forward(self, x: torch.Tensor, context: nn.Module | None, conv: nn.Module) -> torch.Tensor:
        """Compute ``conv(context(x))``.

        Args:
            x: (N, C, H, W).
            context: a context module, None for none.
            conv: what follows it.

        Returns:
            (N, O, H', W').
        """
        if context is None:
            return conv(x)
        if (
            isinstance(context, SqueezeReasoning)
            and isinstance(conv, nn.Conv2d)
            and self.folds(x, context, conv)
        ):
            return self._folded(x, context, conv)
        return conv(context(x))

    def _folded(self, x: torch.Tensor, context: SqueezeReasoning, conv: nn.Conv2d) -> torch.Tensor:
        products = self._products(conv.weight, context.conv_r.weight)
        weights = folded_weight(context, context.scales(x), conv.weight, products)
        outputs = [
            F.conv2d(image[None], weight, conv.bias, conv.stride, conv.padding, conv.dilation)
            for image, weight in zip(x, weights, strict=True)
        ]
        return self.after_conv(conv, outputs[0] if len(outputs) == 1 else torch.cat(outputs))

    def after_conv(self, conv: nn.Module, y: torch.Tensor) -> torch.Tensor:
        """What a convolution does after its convolution; PyTorch's own does nothing."""
        return y

    def can_fold(self, context: nn.Module | None, conv: nn.Module) -> bool:
        """Whether a context and a convolution can be folded, whatever the map."""
        return (
            self.fold is not False
            and isinstance(context, SqueezeReasoning)
            and isinstance(conv, nn.Conv2d)
            and is_plain(context, SqueezeReasoning)
            and not context.training
            and context.is_plain()
            and is_plain(conv, *self.conv_types)
            and is_plain_tensor(conv.weight)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
        )

    def folds(self, x: torch.Tensor, context: nn.Module | None, conv: nn.Module) -> bool:
        """Whether a call folds; the class says when."""
        if not (isinstance(context, SqueezeReasoning) and isinstance(conv, nn.Conv2d)):
            return False
        if not (is_plain_tensor(x) and self.can_fold(context, conv)):
            return False
        if x.dim() != 4 or x.numel() == 0:
            return False
        if self.fold is not None:
            return self.fold
        if torch.jit.is_tracing():
            return False
        # torch.compile, which also says that it exports, makes a graph for each outcome of the
        # rest.
        if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():
            any_batch, any_size = (is_symbolic(x.shape[:1]), is_symbolic(x.shape[2:]))
            if any_batch or any_size:
                return not any_batch
        if x.device.type == "cuda" and len(x) > 1:
            return False
        plain, folded = reconstruction_costs(
            context, conv, x.shape, keeps_products=keeps_products(conv.weight)
        )
        at = rates_of(x)
        return total(folded, at) < total(plain, at)

    def _products(self, weight: torch.Tensor, weight_r: torch.Tensor) -> Products:
        if not keeps_products(weight):
            return multiply_weights(weight, weight_r)
        kept = self._kept
        if kept is None or not (same(kept.weight, weight) and same(kept.weight_r, weight_r)):
            copies = (weight.detach().clone(), weight_r.detach().clone())
            kept = self._kept = _Kept(*copies, multiply_weights(weight, weight_r))
        return kept.products

    def train(self, mode: bool = True) -> "ContextConv":
        """Set the mode; training, which changes the weights, gives up the kept product."""
        if mode:
            self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def extra_repr(self) -> str:
        """Say what is chosen."""
        return f"fold={self.fold}"


class _Kept(NamedTuple):
    """A product, and copies of the weights that it was made of."""

    weight: torch.Tensor
    weight_r: torch.Tensor
    products: Products


def keeps_products(weight: torch.Tensor) -> bool:
    """Whether the product of a weight is kept: not for autograd, nor in a recorded graph.

    Nor on other devices than a CPU, where the product is cheap and a comparison would wait for it.
    """
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return weight.device.type == "cpu" and not (recorded or torch.is_grad_enabled())


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same precision."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def is_symbolic(lengths: torch.Size) -> bool:
    """Whether one of the lengths is a variable of an exported program."""
    return any(isinstance(length, torch.SymInt) for length in lengths)
