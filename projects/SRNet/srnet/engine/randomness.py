"""Random numbers of a training that an interruption does not change.

Dropout and the sampling of proposals in Detectron2's detectors draw from PyTorch's generators
inside the model. They are seeded anew in every iteration, so iteration 1000 draws the same numbers
whether the run came there at once or was resumed on the way.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import DataLoader

from srnet.data.transfer import DeviceBatches
from srnet.layers.image_random import seed_of

from .signals import keep_working, signals_blocked

if TYPE_CHECKING:
    from detectron2.engine import SimpleTrainer as _Trainer
else:
    _Trainer = object

# Sets these numbers apart from those of the data, which are drawn from (seed, position).
_MODEL = 1


def run_seed(cfg: CfgNode) -> int:
    """The seed of a run: `SEED`, or where that is negative one that all processes draw together."""
    return cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()


def seed_iteration(device: torch.device, seed: int, iteration: int) -> None:
    """Seed PyTorch's generators, of the CPU and of a device, alike in all processes.

    The generators of NumPy and Python, which Detectron2 seeds once, are left alone.

    Args:
        device: where the model is.
        seed: the seed of the run, 0 or more.
        iteration: the iteration that begins.
    """
    number = seed_of(seed, iteration, _MODEL)
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(number)


class SeededIterations(_Trainer):
    """Mixed into a Detectron2 trainer: PyTorch's generators are seeded once a batch is there.

    `seed` is set by the owner. The workers of the data loader are started so that a stop signal to
    all processes leaves them running until the iteration is over.
    """

    seed = 0

    @property
    def _data_loader_iter(self) -> Iterator:
        return _SeededBatches(self)

    def _next_batch(self) -> Any:
        if self._data_loader_iter_obj is None:
            self._start_workers()
        batch = next(super()._data_loader_iter)
        device = next(self.model.parameters()).device
        seed_iteration(device, self.seed, self.iter)
        return batch

    def _start_workers(self) -> None:
        loader = self.data_loader
        # This project's loaders are around a DataLoader.
        loader = loader.data_loader if isinstance(loader, DeviceBatches) else loader
        if isinstance(loader, DataLoader) and loader.num_workers:
            loader.worker_init_fn = partial(keep_working, loader.worker_init_fn)
        with signals_blocked():
            super()._data_loader_iter  # noqa: B018  starts them


class _SeededBatches(Iterator):
    def __init__(self, trainer: SeededIterations):
        self.trainer = trainer

    def __next__(self) -> Any:
        return self.trainer._next_batch()
