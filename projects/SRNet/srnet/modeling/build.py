"""Synchronized batch norm where PyTorch's does not run."""

from detectron2.layers import NaiveSyncBatchNorm
from torch import nn


def replace_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replace each `torch.nn.SyncBatchNorm` by Detectron2's NaiveSyncBatchNorm, weights kept.

    PyTorch's refuses CPU tensors, even in one process (2.11). Detectron2's averages the statistics
    of the processes over any backend, gloo too, and is a plain batch norm in one process and in
    eval mode.
    """
    if isinstance(module, nn.SyncBatchNorm):
        replacement = NaiveSyncBatchNorm(module.num_features, module.eps, module.momentum)
        replacement.load_state_dict(module.state_dict())
        return replacement.train(module.training)
    for name, child in module.named_children():
        module.add_module(name, replace_sync_batchnorm(child))
    return module
