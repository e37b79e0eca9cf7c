"""How many images a second one core reads for a classifier, beside torchvision's pipeline.

torchvision's is that of its references: ImageFolder, RandomResizedCrop, flip, ToTensor, Normalize.
Both read the same images, in turns, in one process with one thread. Counted are seconds of that
thread, not of the clock. This project normalises on the GPU, so its part ends with uint8.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torchvision import transforms as T

from srnet.data import build_mapper
from srnet.data.loader import StreamDataset
from srnet.data.mapped_dataset import MappedDataset


def torchvision_reader(paths: list[str], size: int) -> Callable[[int], torch.Tensor]:
    """The standard training pipeline of torchvision's references."""
    transform = T.Compose(
        [
            T.RandomResizedCrop(size),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return lambda i: transform(torchvision.datasets.folder.default_loader(paths[i]))


def seconds(read: Callable[[int], object], count: int) -> float:
    """How long `read` takes for so many images, in seconds of the processor."""
    started = time.process_time()
    for i in range(count):
        read(i)
    return time.process_time() - started


def read_rates(cfg: CfgNode, *, images: int = 200, rounds: int = 5) -> dict[str, list[float]]:
    """Measure both readers in turns on the first dataset of `DATASETS.TRAIN`.

    Args:
        cfg: the config of a classifier.
        images: images a round, at most.
        rounds: rounds of each reader.

    Returns:
        "torchvision" and "this project": images a second of each round.

    Raises:
        ValueError: `DATASETS.TRAIN` is empty, or the model is no classifier.
    """
    if cfg.MODEL.META_ARCHITECTURE != "ImageClassifier" or not cfg.DATASETS.TRAIN:
        raise ValueError(
            "loading is measured for classifiers: MODEL.META_ARCHITECTURE is "
            f"{cfg.MODEL.META_ARCHITECTURE}, DATASETS.TRAIN {cfg.DATASETS.TRAIN}"
        )
    torch.set_num_threads(1)
    dataset = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    count = min(images, len(dataset))
    step = len(dataset) // count
    items = [dataset[i * step] for i in range(count)]
    stream = StreamDataset(MappedDataset(items, build_mapper(cfg, is_train=True)), seed=0)
    readers = {
        "torchvision": torchvision_reader(
            [item["file_name"] for item in items], cfg.INPUT.CLASSIFICATION.SIZE
        ),
        "this project": lambda i: stream[i, i],
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for read in readers.values():
        seconds(read, count)  # the files into memory
    for _ in range(rounds):
        for name, read in readers.items():
            rates[name].append(count / seconds(read, count))
    return rates


def to_text(rates: dict[str, list[float]]) -> str:
    """Format rates: a line a reader, median and range."""
    return "".join(
        f"{name}: {statistics.median(values):.0f} images a second a core "
        f"({min(values):.0f} to {max(values):.0f})\n"
        for name, values in rates.items()
    )
