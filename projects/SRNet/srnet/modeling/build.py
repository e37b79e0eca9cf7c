"""Building a model, and what its device needs: the one place that knows devices."""

from typing import TypeVar

import detectron2.modeling
import torch
from detectron2.config import CfgNode
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn

# The heads with a choice of norm that Detectron2's meta-architectures build, as nodes of MODEL.
DETECTRON2_HEADS = {
    "GeneralizedRCNN": ("ROI_BOX_HEAD", "ROI_MASK_HEAD"),
    "PanopticFPN": ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "SEM_SEG_HEAD"),
}

Part = TypeVar("Part", bound=nn.Module)


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config, with random weights, on `MODEL.DEVICE`.

    ``detectron2.modeling.build_model(cfg)`` builds the very same one: what a device needs is done
    by :func:`fit_to_device` where the model's parts are built.
    """
    return detectron2.modeling.build_model(cfg)


def fit_to_device(cfg: CfgNode, part: Part) -> Part:
    """Make a new part of a model, a backbone or a head, fit for `MODEL.DEVICE`.

    * On a CPU each `torch.nn.SyncBatchNorm` becomes Detectron2's NaiveSyncBatchNorm, since that of
      PyTorch refuses CPU tensors in a process group (2.11). In one process it becomes a plain batch
      norm, which TorchScript takes, too.
    * With `MODEL.CHANNELS_LAST` the weights of its convolutions are kept channels last, and the
      convolutions hand that format on to their outputs.

    Returns:
        The part, changed in place.

    Raises:
        ValueError: see :func:`check_head_norms`.
    """
    if torch.device(cfg.MODEL.DEVICE).type == "cpu":
        check_head_norms(cfg)
        for name, child in part.named_children():
            part.add_module(name, replace_sync_batchnorm(child))
    if cfg.MODEL.CHANNELS_LAST:
        set_memory_format(part, torch.channels_last)
    return part


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Keep the four-dimensional parameters and buffers of a module in a memory format."""
    # The stubs of Module.to lack the overload that its documentation has.
    module.to(memory_format=memory_format)  # type: ignore[call-overload]


def check_head_norms(cfg: CfgNode) -> None:
    """Refuse norms that several CPU processes cannot run, in heads that Detectron2 builds.

    Those heads are not built here, so their `torch.nn.SyncBatchNorm` cannot be replaced. In one
    process it is a plain batch norm and runs.

    Raises:
        ValueError: one of these heads has the norm SyncBN; the message names the key.
    """
    if comm.get_world_size() == 1:
        return
    for key in DETECTRON2_HEADS.get(cfg.MODEL.META_ARCHITECTURE, ()):
        if cfg.MODEL[key].NORM == "SyncBN":
            raise ValueError(
                f"MODEL.{key}.NORM is SyncBN, which several CPU processes cannot run: choose "
                "naiveSyncBN, which has the same weights, or GN"
            )


def replace_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replace each `torch.nn.SyncBatchNorm` by a norm that runs on a CPU, weights kept.

    With several processes that is Detectron2's NaiveSyncBatchNorm, which averages their statistics
    over any backend, gloo too; in one it is a plain batch norm.
    """
    if type(module) is nn.SyncBatchNorm:  # a subclass may do more than normalise
        kind = nn.BatchNorm2d if comm.get_world_size() == 1 else NaiveSyncBatchNorm
        replacement = kind(module.num_features, module.eps, module.momentum)
        replacement.load_state_dict(module.state_dict())
        return replacement.train(module.training)
    for name, child in module.named_children():
        module.add_module(name, replace_sync_batchnorm(child))
    return module
