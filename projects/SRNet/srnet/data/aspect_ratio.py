"""Batches of images with similar aspect ratios, as a stream that can begin anywhere.

Detectron2 groups images after they are read (AspectRatioGroupedDataset). There the order depends
on the number of workers, each process groups its own images, and a resumed run cannot find the
batch it stopped at. Here the sizes in the annotations decide, before anything is read.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import Sampler


def wide_images(records: Sequence[dict]) -> np.ndarray | None:
    """Which images are wider than high.

    Args:
        records: Detectron2's standard dicts.

    Returns:
        A bool for each record, or None where a record has no `width` or `height`.
    """
    if not all("width" in record and "height" in record for record in records):
        return None
    return np.array([record["width"] > record["height"] for record in records], dtype=bool)


class AspectRatioBatches(Sampler):
    """Group the stream of all processes into batches of wide and of high images.

    As in Detectron2, a batch is complete when its group has enough images. Each process takes its
    part of every batch, so the batches do not depend on the number of processes.

    Args:
        sampler: a Detectron2 training sampler; its infinite stream is that of all processes.
        wide: whether each image is wider than high.
        total_batch_size: images of a batch, over all processes.
        start: the batch to begin with.
    """

    def __init__(
        self,
        sampler: TrainingSampler | RepeatFactorTrainingSampler,
        wide: np.ndarray,
        total_batch_size: int,
        start: int = 0,
    ):
        self.sampler = sampler
        self.wide = wide
        self.total_batch_size = total_batch_size
        self.start = start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rank, processes = comm.get_rank(), comm.get_world_size()
        for batch in itertools.islice(self._batches(), self.start, None):
            yield batch[rank::processes]

    def _batches(self) -> Iterator[list[tuple[int, int]]]:
        groups: tuple[list, list] = ([], [])
        indices = self.sampler._infinite_indices()
        for position, index in enumerate(indices):
            group = groups[int(self.wide[index])]
            group.append((position, index))
            if len(group) == self.total_batch_size:
                yield group[:]
                group.clear()
