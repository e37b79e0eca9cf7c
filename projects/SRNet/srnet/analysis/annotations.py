"""What the annotations of a dataset in COCO's format cost to read, in one process and in several.

Detectron2's loader reads them without checks, in each process; this project's checks and completes
them, in one process of a machine for all. Both read the same drawn file, in turns. Counted are
seconds of the processor, not of the clock.
"""

import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    get_detection_dataset_dicts,
)
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.engine import launch
from detectron2.utils import comm

from srnet.data.records import load_dataset
from srnet.data.shared_records import load_once

from .process_memory import read_proc

PER_IMAGE = 7  # instances; train2017 has 7.3
CORNERS = 24  # of a polygon
CATEGORIES = 80
CROWDS = 0.01  # the share of instances that are crowds, with an RLE
SIZE = (480, 640)


def write_annotations(path: str | os.PathLike, images: int) -> None:
    """Write a file in COCO's instance format, of drawn ellipses, without the images.

    Args:
        path: the file.
        images: how many images it lists.
    """
    random = np.random.default_rng(0)
    height, width = SIZE
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    with open(path, "w") as file:
        categories = [{"id": i + 1, "name": f"class {i}"} for i in range(CATEGORIES)]
        sizes = {"height": height, "width": width}
        listed = [{"id": i, "file_name": f"{i:012d}.jpg", **sizes} for i in range(images)]
        head = json.dumps({"categories": categories, "images": listed})
        file.write(f'{head[:-1]}, "annotations": [')
        for number in range(images * PER_IMAGE):
            radii = random.uniform(4, 100, 2)
            center = random.uniform(radii, (width, height) - radii)
            annotation = {
                "id": number,
                "image_id": number // PER_IMAGE,
                "category_id": int(random.integers(CATEGORIES)) + 1,
                "bbox": [*(center - radii).round(2), *(2 * radii).round(2)],
                "area": float(np.pi * radii.prod().round(2)),
                "iscrowd": 0,
                "segmentation": [(center + radii * circle).round(2).ravel().tolist()],
            }
            if random.random() < CROWDS:
                counts = [1000, 500, height * width - 1500]
                rle = {"size": [height, width], "counts": counts}
                annotation |= {"iscrowd": 1, "segmentation": rle}
            file.write(f"{', ' if number else ''}{json.dumps(annotation)}")
        file.write("]}")


def _seconds(read: Callable[[], object]) -> float:
    """How long `read` takes, in seconds of the processor."""
    gc.collect()
    started = time.process_time()
    read()
    return time.process_time() - started


def read_times(json_file: str, rounds: int = 3) -> dict[str, list[float]]:
    """Measure both loaders in turns.

    Args:
        json_file: in COCO's instance format.
        rounds: rounds of each loader.

    Returns:
        "Detectron2" and "this project": seconds of each round.
    """
    name, root = "annotations_benchmark", os.path.dirname(json_file)
    register_coco_instances(name, {}, json_file, root)
    loaders: dict[str, Callable[[], object]] = {
        "Detectron2": lambda: load_coco_json(json_file, root, name),
        "this project": lambda: load_dataset(name, masks=True),
    }
    times: dict[str, list[float]] = {loader: [] for loader in loaders}
    try:
        for _ in range(rounds):
            for loader, read in loaders.items():
                times[loader].append(_seconds(read))
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    return times


class ProcessCost(NamedTuple):
    """What a process pays for the records of a dataset.

    Attributes:
        seconds: of the processor, until all records have been read once.
        peak: GB by which its memory grew at its peak.
        shared: GB of files in its memory beyond what was there, which all processes share.
    """

    seconds: float
    peak: float
    shared: float


def process_costs(json_file: str, processes: int) -> dict[str, list[ProcessCost]]:
    """Measure both loaders in several processes that start together, as a training does.

    Args:
        json_file: in COCO's instance format.
        processes: how many.

    Returns:
        "Detectron2" and "this project": the cost of each process.
    """
    costs = {}
    for loader in ("Detectron2", "this project"):
        with TemporaryDirectory(prefix="annotations") as folder:
            arguments = (json_file, loader, folder)
            launch(_measure_process, processes, dist_url="auto", args=arguments)
            texts = [Path(folder, str(rank)).read_text() for rank in range(processes)]
        costs[loader] = [ProcessCost(*map(float, text.split())) for text in texts]
    return costs


def _measure_process(json_file: str, loader: str, folder: str) -> None:
    name, root = "annotations_benchmark", os.path.dirname(json_file)
    register_coco_instances(name, {}, json_file, root)
    memory, files = (read_proc("self/status", field) for field in ("VmRSS", "RssFile"))
    started = time.process_time()
    if loader == "Detectron2":
        records = DatasetFromList(get_detection_dataset_dicts([name]), copy=False)
    else:
        records, _ = load_once(lambda: (load_dataset(name, masks=True), None), [name])
    for index in range(len(records)):
        records[index]
    seconds = time.process_time() - started
    peak = (read_proc("self/status", "VmHWM") - memory) / 1e9
    shared = (read_proc("self/status", "RssFile") - files) / 1e9
    Path(folder, str(comm.get_rank())).write_text(f"{seconds} {peak} {shared}")
    comm.synchronize()


def processes_to_text(costs: dict[str, list[ProcessCost]]) -> str:
    """Format the costs of processes: a line a process, first the one that reads for all."""
    lines = []
    for loader, values in costs.items():
        for rank, (seconds, peak, shared) in enumerate(values):
            lines.append(
                f"{loader}, process {rank} of {len(values)}: {seconds:.2f} s, peak {peak:.2f} GB, "
                f"of which {shared:.2f} GB shared"
            )
    ours, theirs = costs["this project"], costs["Detectron2"]
    ratio = sum(x.seconds for x in ours) / sum(x.seconds for x in theirs)
    lines.append(f"time of all, this project / Detectron2: {ratio:.3f}")
    once = max(x.shared for x in ours)
    memory = once + sum(x.peak - x.shared for x in ours)
    ratio = memory / sum(x.peak for x in theirs)
    lines.append(f"memory of all, this project / Detectron2: {ratio:.3f}")
    return "\n".join(lines) + "\n"


def to_text(times: dict[str, list[float]], images: int) -> str:
    """Format times: a line a loader, median and range, and the ratio of a round."""
    lines = [f"{images} images, {images * PER_IMAGE} instances"]
    lines += [
        f"{loader}: {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"
        for loader, values in times.items()
    ]
    pairs = zip(times["this project"], times["Detectron2"], strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    median, low, high = statistics.median(ratios), min(ratios), max(ratios)
    lines.append(f"this project / Detectron2: {median:.3f} ({low:.3f} to {high:.3f})")
    return "\n".join(lines) + "\n"
