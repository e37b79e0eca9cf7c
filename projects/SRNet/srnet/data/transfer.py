"""What travels from the workers to the device: few bytes there, the types of the models here.

A worker sends an image of 8 bits a channel as it is, for models subtract its mean on the device.
Labels are narrowed to 8 bits where their values allow it, an eighth of their int64, and widened on
the device.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

MOVED = ("image", "sem_seg", "target")
"""Tensors of a sample that go to the device here; models move everything else themselves."""


class NarrowLabels:
    """A mapper whose semantic labels are uint8 where they fit.

    Args:
        mapper: from a record to a sample, or None.
    """

    def __init__(self, mapper: Callable[[dict], dict | None]):
        self.mapper = mapper

    def __call__(self, record: dict) -> dict | None:
        """Map one record."""
        sample = self.mapper(record)
        label = None if sample is None else sample.get("sem_seg")
        if sample is None or not isinstance(label, torch.Tensor) or label.dtype != torch.int64:
            return sample
        if not label.numel() or (label.min() >= 0 and label.max() <= 255):
            sample["sem_seg"] = label.to(torch.uint8)
        return sample


class DeviceBatches:
    """A loader whose batches are on the device, with the types that the mapper gave them.

    From pinned memory a GPU copies them while the program goes on.

    Args:
        loader: yields lists of samples of a :class:`NarrowLabels`: a DataLoader, or Detectron2's
            AspectRatioGroupedDataset around one.
        device: where they go.
    """

    def __init__(self, loader: Any, device: str):
        self.loader = loader
        self.device = torch.device(device)

    @property
    def data_loader(self) -> DataLoader:
        """The DataLoader that has the workers."""
        is_inner = isinstance(self.loader, DataLoader)
        return self.loader if is_inner else self.loader.dataset

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        return map(self._move, self.loader)  # not a generator: the workers start here

    def _move(self, batch: list[dict]) -> list[dict]:
        return [self._move_sample(sample) for sample in batch]

    def _move_sample(self, sample: dict) -> dict:
        moved = {
            key: sample[key].to(self.device, non_blocking=True)
            for key in MOVED
            if isinstance(sample.get(key), torch.Tensor)
        }
        if "sem_seg" in moved and moved["sem_seg"].dtype == torch.uint8:
            moved["sem_seg"] = moved["sem_seg"].long()
        return {**sample, **moved}


def pins_memory(device: str) -> bool:
    """Whether batches for a device should be in pinned memory."""
    return torch.device(device).type == "cuda" and torch.cuda.is_available()
