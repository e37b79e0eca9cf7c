"""The activation memory of a module, as it is counted everywhere in this project."""

from collections.abc import Iterator

import torch
from torch import nn


def activation_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Memory that a module adds to a training step, from its forward to its backward pass.

    That is its output, which the next layer keeps, and what autograd saves in between. The input
    is the output of the layer before and counts there; parameters and buffers are no activations.
    A tensor that is saved twice, or through views, counts once. Needs one forward pass.

    Args:
        module: maps one tensor to one tensor.
        x: its input. It is taken as one that needs a gradient, as between two trained layers.

    Returns:
        Bytes.
    """
    x = x.detach().requires_grad_()
    known = {_storage(t) for t in (x, *module.parameters(), *module.buffers())}
    saved = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        saved.append(module(x))
    return sum(_sizes(saved, known))


def _sizes(tensors: list[torch.Tensor], known: set[int]) -> Iterator[int]:
    """Bytes of each storage behind the tensors, but for the known ones."""
    seen = set(known)
    for tensor in tensors:
        if _storage(tensor) not in seen:
            seen.add(_storage(tensor))
            yield tensor.untyped_storage().nbytes()


def _storage(tensor: torch.Tensor) -> int:
    """A number that tensors on the same storage share, also where there is no memory behind it."""
    return tensor.untyped_storage()._cdata
