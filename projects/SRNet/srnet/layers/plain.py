"""When a module may be computed from its weights alone, without calling it.

Squeeze Reasoning has two shortcuts: the backward pass of `squeeze_autograd.py` and the folded
inference of `context_conv.py`. Both read the weights of convolutions and do not call them. That is
right only for a convolution that nobody wrapped, hooked, parametrized or replaced.
"""

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

# Where code of others puts a function of its own into a convolution.
OWN_METHODS = {"forward", "_conv_forward"}


def is_plain(module: nn.Module | None, *types: type[nn.Module]) -> bool:
    """Whether a module computes what its class says, and no more.

    Args:
        module: any module, or None.
        types: the classes it may have; a class derived from them is another class.

    Returns:
        False for another class (`torch.nn.utils.parametrize` makes one, as LoRA layers do), for a
        module with hooks (those of `torch.nn.utils.prune`, `weight_norm` and `spectral_norm`
        included) or with a `forward` of its own, and where hooks for all modules are registered.
    """
    if module is None or type(module) not in types:
        return False
    if any(name in module.__dict__ for name in OWN_METHODS) or _has_any_global_hook():
        return False
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def is_plain_pointwise(conv: nn.Module | None) -> bool:
    """Whether a module is a plain 1x1 convolution without bias: a product with its weight."""
    return (
        isinstance(conv, nn.Conv2d)
        and is_plain(conv, nn.Conv2d)
        and is_plain_tensor(conv.weight)
        and conv.bias is None
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.groups == 1
        and conv.padding == (0, 0)
    )


def is_plain_tensor(x: torch.Tensor) -> bool:
    """Whether it is a tensor of PyTorch's own class, and no proxy of `torch.fx`.

    What stands for a tensor while torch.compile or torch.export records a graph counts as one.
    """
    return type(x) in (torch.Tensor, nn.Parameter) or torch.compiler.is_compiling()


def is_transformed(*tensors: torch.Tensor) -> bool:
    """Whether a transform of `torch.func` runs, or a tensor has a forward-mode tangent."""
    if torch._C._are_functorch_transforms_active():  # what autograd.Function.apply asks as well
        return True
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
