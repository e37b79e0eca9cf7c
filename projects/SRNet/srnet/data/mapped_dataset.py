"""A dataset behind a mapper, that passes over what the mapper rejects."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch
from torch.utils.data import Dataset

from .transfer import DeviceBatches

Item = TypeVar("Item", covariant=True)


class Items(Protocol[Item]):
    """A map-style dataset: a list, or a `torch.utils.data.Dataset` with a length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class MappedDataset(Dataset):
    """Map the items of a dataset; where the mapper returns None, map another one instead.

    Detectron2's MapDataset does this with a set of all indices, an object an image in every worker,
    and with random numbers of its own. Here the other item is drawn with PyTorch's generator, so
    within a stream it depends on the position alone.

    Args:
        dataset: a map-style dataset.
        mapper: maps an item, or rejects it with None.
        replace: draw another item for a rejected one; None is returned otherwise.
    """

    MAX_DRAWS = 100

    def __init__(
        self, dataset: Items[dict], mapper: Callable[[dict], dict | None], replace: bool = True
    ):
        self.dataset = dataset
        self.mapper = mapper
        self.replace = replace

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict | None:
        for _ in range(self.MAX_DRAWS):
            mapped = self.mapper(self.dataset[index])
            if mapped is not None or not self.replace:
                return mapped
            index = int(torch.randint(len(self.dataset), ()))
        raise RuntimeError(f"the mapper rejected {self.MAX_DRAWS} items one after another")


def leave_out_missing(batch: list[dict | None]) -> list[dict]:
    """Collate a test batch: drop what the mapper rejected."""
    return [item for item in batch if item is not None]


class FilledBatches:
    """A test loader without the batches of which nothing is left.

    Args:
        loader: yields lists. Its length is that of this one too, so an evaluation loop may end
            before it.
    """

    def __init__(self, loader: DeviceBatches):
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        return (batch for batch in self.loader if batch)
