#!/usr/bin/env python3
"""Measure how many images a second one core reads for a classifier, beside torchvision's pipeline.

    tools/benchmark_loading.py --config-file configs/ImageNet-Classification/resnet_50.yaml

torchvision's is that of its references: ImageFolder, RandomResizedCrop, flip, ToTensor, Normalize.
Both read the same images of the first dataset of DATASETS.TRAIN, in turns, in one process with one
thread; counted are seconds of that thread, not of the clock. This project's normalises on the GPU,
so its part ends with uint8.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from detectron2.data import DatasetCatalog
from torchvision import transforms as T

from srnet.data import build_mapper
from srnet.data.loader import StreamDataset
from srnet.data.mapped_dataset import MappedDataset
from srnet.model_zoo import get_cfg


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


def main() -> None:
    """Measure both in turns and print medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--images", type=int, default=200, help="images a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = get_cfg(args.config_file, args.opts)
    dataset = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    count = min(args.images, len(dataset))
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
    for _ in range(args.rounds):
        for name, read in readers.items():
            rates[name].append(count / seconds(read, count))
    for name, values in rates.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{name}: {statistics.median(values):.0f} images a second a core ({spread})")


if __name__ == "__main__":
    main()
