"""Squeeze Reasoning in an exported graph: folded where its size is fixed, plain otherwise."""

import torch
from torch import nn

from srnet.layers import SqueezeReasoning
from srnet.layers.context_conv import ContextConv

from .graph import Graph


def settle_folding(graph: Graph) -> str:
    """Decide for each module of a graph whether it is folded, which a recorded graph cannot.

    A fixed size folds what the model itself folds at that size. A graph for any size is plain:
    which form is cheaper depends on the size, and the folded one has a weight for each image.

    Returns:
        What was decided, for the user.
    """
    contexts = [m for m in graph.module.modules() if isinstance(m, SqueezeReasoning)]
    convs = [m for m in graph.module.modules() if isinstance(m, ContextConv)]
    folds = {} if graph.dynamic else _choices(graph, convs)
    for conv in convs:
        conv.fold = folds.get(conv, False)
    if not contexts:
        return ""
    if graph.dynamic:
        return "SR in its plain form, since the size varies (--size folds it)"
    return (
        f"SR folded into the next convolution in {sum(folds.values())} of {len(contexts)} "
        f"modules, where that is cheaper at this size"
    )


def _choices(graph: Graph, convs: list[ContextConv]) -> dict[nn.Module, bool]:
    """What each module chooses when the example is predicted."""
    found: dict[nn.Module, bool] = {}

    def note(conv: ContextConv, inputs: tuple) -> None:
        found[conv] = conv.folds(*inputs)

    handles = [conv.register_forward_pre_hook(note) for conv in convs]
    try:
        with torch.no_grad():
            graph.module(graph.example)
    finally:
        for handle in handles:
            handle.remove()
    return found
