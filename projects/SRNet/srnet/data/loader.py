"""Training data as one stream, whatever the number of processes, workers and interruptions.

Position i of the stream is an image and its own random seed. Detectron2's loader seeds each worker
once, so there the augmentation depends on how many workers and processes there are, and a resumed
run starts the order of the images anew (0.6). Here a run on two processes sees the global batches
of a run on one, and a resumed run those it would have seen.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.build import (
    _train_loader_from_config,
    trivial_batch_collator,
    worker_init_reset_seed,
)
from detectron2.data.common import ToIterableDataset
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from .aspect_ratio import AspectRatioBatches, wide_images
from .mapped_dataset import FilledBatches, Items, MappedDataset, leave_out_missing
from .records import load_records
from .seeding import seeded
from .shared_records import Loaded, load_once
from .tasks import build_mapper, task_of
from .transfer import DeviceBatches, NarrowLabels, pins_memory
from .validate import check_categories, check_mask_format


class StreamSampler(Sampler):
    """Pair the indices of an infinite sampler with their positions in the stream of all processes.

    Args:
        sampler: yields this process's share, every `world_size`-th index of the stream.
        start: the position to begin at, a multiple of the number of processes.
    """

    def __init__(self, sampler: Sampler, start: int = 0):
        self.sampler = sampler
        self.start = start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        positions = itertools.count(comm.get_rank(), comm.get_world_size())
        stream = zip(positions, self.sampler)  # noqa: B905  both are infinite
        return itertools.islice(stream, self.start // comm.get_world_size(), None)


class ShuffledIndices(TrainingSampler):
    """Detectron2's TrainingSampler, its order too, without a list of all indices in memory."""

    def __init__(self, sampler: TrainingSampler):
        self.__dict__.update(sampler.__dict__)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            for chunk in torch.randperm(self._size, generator=generator).split(4096):
                yield from chunk.tolist()


class StreamDataset(Dataset):
    """Map (position, index) pairs to samples, each drawn with the random numbers of its position.

    Args:
        dataset: a map-style dataset whose items may use the generators of NumPy, Python and
            PyTorch.
        seed: the seed of the stream.
    """

    def __init__(self, dataset: Items[dict | None], seed: int):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> dict | None:
        position, index = item
        with seeded(self.seed, position):
            return self.dataset[index]


def build_train_loader(cfg: CfgNode, mapper: Callable, *, device: str = "cpu") -> DeviceBatches:
    """Build the training loader: Detectron2's, over a stream.

    With `SEED` set the stream is the same in every run; otherwise it is drawn anew.

    Args:
        cfg: the config.
        mapper: from a record to a sample.
        device: where the images and semantic labels of a batch are.
    """
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    # All images of a task of one size are of one group.
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING and not task_of(cfg).one_size

    def load() -> Loaded:
        records = _load_labelled(cfg, cfg.DATASETS.TRAIN)
        return records, wide_images(records) if grouped and isinstance(records, list) else None

    # Detectron2's sampler draws its seed from NumPy's generator, whatever was drawn before.
    with seeded(seed):
        records, wide = load_once(load, cfg.DATASETS.TRAIN)
        arguments = _train_loader_from_config(cfg, mapper, dataset=records)
    arguments["aspect_ratio_grouping"] = grouped
    del arguments["dataset"]
    dataset = MappedDataset(records, NarrowLabels(arguments.pop("mapper")))
    sampler = arguments.pop("sampler")
    if type(sampler) is TrainingSampler:
        sampler = ShuffledIndices(sampler)
    if wide is not None:
        loader = DataLoader(
            StreamDataset(dataset, seed),
            batch_sampler=AspectRatioBatches(sampler, wide, cfg.SOLVER.IMS_PER_BATCH),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            collate_fn=getattr(mapper, "collate", trivial_batch_collator),
            worker_init_fn=worker_init_reset_seed,
            pin_memory=pins_memory(device),
        )
        return DeviceBatches(loader, device)
    loader = build_detection_train_loader(
        StreamDataset(dataset, seed),
        mapper=None,
        sampler=StreamSampler(sampler),
        collate_fn=getattr(mapper, "collate", None),
        pin_memory=pins_memory(device),
        **arguments,
    )
    return DeviceBatches(loader, device)


def build_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Callable, *, device: str = "cpu"
) -> Iterable[list[dict]]:
    """Build the test loader of a dataset: Detectron2's, an image at a time.

    The images of a classifier have one size, so there it has batches of
    `INPUT.CLASSIFICATION.BATCH_TEST`. Images that the mapper passes over are left out; the
    evaluator counts them as missing. Arguments are those of :func:`build_train_loader`.
    """
    names = [dataset_name]
    records, _ = load_once(lambda: (load_records(cfg, names, is_train=False), None), names)
    return _in_order(cfg, records, mapper, device)


def build_validation_loader(
    cfg: CfgNode, dataset_name: str, *, device: str = "cpu"
) -> Iterable[list[dict]]:
    """Build a loader of labelled images, in order and without augmentation.

    Batches are those of :func:`build_test_loader`. Images without a label are left out as in
    training.
    """
    names = [dataset_name]
    records, _ = load_once(lambda: (_load_labelled(cfg, names), None), names)
    return _in_order(cfg, records, build_mapper(cfg, is_train=True, augment=False), device)


def _load_labelled(cfg: CfgNode, names: Sequence[str]) -> list[dict] | Items[dict]:
    """Load datasets to train on, and check that their labels fit the model."""
    records = load_records(cfg, names, is_train=True)
    if isinstance(records, list):
        check_categories(records, cfg)
        check_mask_format(records, cfg)
    return records


def _in_order(
    cfg: CfgNode, dataset: Items[dict], mapper: Callable, device: str
) -> Iterable[list[dict]]:
    loader = build_detection_test_loader(
        MappedDataset(dataset, NarrowLabels(mapper), replace=False),
        mapper=None,
        batch_size=cfg.INPUT.CLASSIFICATION.BATCH_TEST if task_of(cfg).one_size else 1,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=getattr(mapper, "collate", leave_out_missing),
    )
    loader.pin_memory = pins_memory(device)
    batches = DeviceBatches(loader, device)
    return FilledBatches(batches) if cfg.DATALOADER.SKIP_BAD_IMAGES else batches


def start_at_iteration(batches: DeviceBatches, iteration: int, images_per_batch: int) -> None:
    """Let a loader of :func:`build_train_loader`, not read yet, begin with a later batch.

    Where images are grouped by aspect ratio and the annotations have no sizes, Detectron2 forms the
    batches after the images are read. There the loader begins near that batch, not at it.
    """
    loader = batches.data_loader
    if isinstance(loader.batch_sampler, AspectRatioBatches):
        loader.batch_sampler.start = iteration
    else:
        stream = cast(ToIterableDataset, loader.dataset)
        stream.sampler.start = iteration * images_per_batch
