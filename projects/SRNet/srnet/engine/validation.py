"""The training's losses on images that it does not train on."""

import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from srnet.data import build_validation_loader
from srnet.data.seeding import seeded
from srnet.modeling.global_batch import each_process_alone

from .averaging import share_buffers

VALIDATION = "validation"


def validation_losses(model: nn.Module, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Compute the mean of each loss over the images of all processes.

    The model is as it was afterwards: its weights, buffers and modes. So are the generators of
    random numbers: what a model draws, such as a detector's proposals, depends on the image alone.
    Therefore the result is the same on one process and on many.

    Args:
        model: a meta-architecture, not in DistributedDataParallel.
        loader: yields this process's share of labelled images.

    Returns:
        The losses by name, and "total_loss", their sum. An image with a loss that is not a finite
        number, such as one without a labelled pixel, is left out; NaN where none is left.
    """
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    found: list[tuple[dict[str, float], int]] = []
    with (
        torch.no_grad(),
        seeded(0),
        torch.random.fork_rng(devices=devices),
        EventStorage(),  # what models record while they train
        _unchanged(model),
        each_process_alone(model),  # they hold different numbers of images
    ):
        share_buffers(model)
        for module, training in _loss_modes(model):
            module.training = training
        for batch in loader:
            seed = zlib.crc32(os.path.basename(batch[0]["file_name"]).encode())
            with seeded(seed):
                if devices:
                    torch.cuda.manual_seed(seed)
                losses = {name: float(value) for name, value in model(batch).items()}
            found.append((losses, len(batch)))
    gathered = [item for share in comm.all_gather(found) for item in share]
    finite = [x for x in gathered if all(map(math.isfinite, x[0].values()))]
    names = dict.fromkeys(name for losses, _ in gathered for name in losses)
    count = sum(size for _, size in finite)
    # fsum does not depend on the order.
    means = {
        name: math.fsum(losses[name] * size for losses, size in finite) / count
        if count
        else math.nan
        for name in names
    }
    return {"total_loss": math.fsum(means.values()), **means}


def _loss_modes(model: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """Pair each module with its mode: training for those that turn outputs into losses.

    These are the meta-architecture, its heads, and the heads that ROI heads consist of. A backbone
    and the layers of the heads work as in inference.
    """
    heads = [part for name, part in model.named_children() if name != "backbone"]
    roi_heads = getattr(model, "roi_heads", None)
    parts = list(roi_heads.children()) if isinstance(roi_heads, nn.Module) else []
    losing = {id(module) for module in (model, *heads, *parts)}
    for module in model.modules():
        yield module, id(module) in losing and not isinstance(module, _NormBase | _DropoutNd)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Give a model's buffers and modes back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for buffer, value in buffers:
            buffer.copy_(value)


class ValidationLoss(HookBase):
    """Measure the validation losses every so many iterations, and at the end.

    They are recorded as `validation/total_loss` and so on.

    Args:
        cfg: the config, with `TEST.VALIDATION_LOSS`.
        model: what is evaluated: the trained model or the average of its weights.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        self.cfg = cfg
        self.model = model
        self.period = cfg.TEST.VALIDATION_LOSS.PERIOD
        self._loader: Iterable[list[dict]] | None = None

    def after_step(self) -> None:
        """Measure, where it is time."""
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            with self.trainer.interruptible():
                losses = self.measure()
            named = {f"{VALIDATION}/{name}": value for name, value in losses.items()}
            self.trainer.storage.put_scalars(**named, smoothing_hint=False)
            comm.synchronize()

    def measure(self) -> dict[str, float]:
        """Compute the losses now."""
        if self._loader is None:
            dataset = self.cfg.TEST.VALIDATION_LOSS.DATASET or self.cfg.DATASETS.TEST[0]
            device = self.cfg.MODEL.DEVICE
            self._loader = build_validation_loader(self.cfg, dataset, device=device)
        return validation_losses(self.model, self._loader)
