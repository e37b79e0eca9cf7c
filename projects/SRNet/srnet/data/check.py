"""Reading a whole dataset once: what is wrong with which file, and what is there."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .datasets.custom import custom_entry
from .datasets.custom_semantic import list_semantic
from .mapped_dataset import Items
from .paths import check_inside_image_root
from .read import check_label_size, read_image, read_label
from .records import load_dataset
from .tasks import task_of
from .validate import check_categories, check_mask_format, read_panoptic

BATCH = 8  # images that a worker reads at once


class ImageReport(NamedTuple):
    """What is found in the files of an image.

    Attributes:
        findings: what is wrong, a line each.
        size: (height, width) in pixels; None where the image does not decode.
        pixels: of each semantic class, and then the ignored ones; None without a label.
    """

    findings: list[str]
    size: tuple[int, int] | None
    pixels: np.ndarray | None


@dataclass
class DatasetReport:
    """What is found in a dataset.

    Attributes:
        name: of the dataset.
        findings: what is wrong, a line each.
        images: how many there are.
        sizes: how many images have each (height, width).
        things: names of the classes with instances.
        instances: of each of them.
        images_with_thing: images with an instance of each.
        stuff: names of the semantic classes.
        pixels: of each of them, and then the ignored ones.
        images_with_stuff: images with a pixel of each.
    """

    name: str
    findings: list[str] = field(default_factory=list)
    images: int = 0
    sizes: Counter = field(default_factory=Counter)
    things: Sequence[str] = ()
    instances: Counter = field(default_factory=Counter)
    images_with_thing: Counter = field(default_factory=Counter)
    stuff: Sequence[str] = ()
    pixels: np.ndarray | None = None
    images_with_stuff: np.ndarray | None = None

    def __str__(self) -> str:
        """The counts as Markdown, then the findings."""
        text = f"{self.name}: {self.images} images{_describe(self.sizes)}"
        parts = [text]
        if self.things and self.instances:
            counts = [
                (name, self.images_with_thing[i], self.instances[i])
                for i, name in enumerate(self.things)
            ]
            parts.append(_table(counts, ("class", "images", "instances")))
        if self.pixels is not None and self.images_with_stuff is not None:
            shares = 100 * self.pixels / max(self.pixels.sum(), 1)
            names = [*self.stuff, "(ignored)"]
            rows = list(zip(names, self.images_with_stuff, self.pixels, shares, strict=True))
            parts.append(_table(rows, ("class", "images", "pixels", "% of pixels")))
        if not self.findings:
            return "\n\n".join([*parts, "Nothing is wrong."])
        return "\n\n".join([*parts, f"Findings: {len(self.findings)}\n" + "\n".join(self.findings)])


def _describe(sizes: Counter) -> str:
    if not sizes:
        return ""
    ordered = [f"{h} x {w}" for h, w in sorted(sizes, key=lambda size: size[0] * size[1])]
    text = f"{len(sizes)} sizes from {ordered[0]} to {ordered[-1]}"
    return f", {text if len(sizes) > 1 else ordered[0]} (height x width in pixels)"


def _table(rows: Sequence[tuple], columns: tuple[str, ...]) -> str:
    formats = ("", "d", "d", ".2f")[: len(columns)]
    return tabulate(rows, columns, tablefmt="pipe", floatfmt=formats)


class ImageChecker(Dataset):
    """Reads the image and the label of each record.

    Args:
        records: of the dataset.
        metadata: of the dataset.
    """

    def __init__(self, records: Items[dict], metadata: Metadata):
        self.records = records
        self.num_classes = len(metadata.get("stuff_classes") or ())
        self.ignore_value = metadata.get("ignore_label", 255)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> ImageReport:
        record = self.records[index]
        path, label_path = record["file_name"], record.get("sem_seg_file_name")
        findings: list[str] = []
        size = pixels = None
        try:
            height, width = read_image(path, "RGB").shape[:2]
            size = height, width
        except ValueError as error:
            findings.append(str(error))
        listed = record.get("height"), record.get("width")
        if size is not None and None not in listed and size != listed:
            findings.append(
                f"{path} is {size[1]} x {size[0]} pixels, and its annotations say {listed[1]} x "
                f"{listed[0]}"
            )
        if label_path:
            try:
                label = read_label(
                    label_path, self.num_classes, self.ignore_value, record.get("label_mapping")
                )
                if size is not None:
                    check_label_size(path, size, label_path, label.shape)
                classes = np.where(label == self.ignore_value, self.num_classes, label)
                pixels = np.bincount(classes.ravel(), minlength=self.num_classes + 1)
            except ValueError as error:
                findings.append(str(error))
        return ImageReport(findings, size, pixels)


def check_dataset(cfg: CfgNode, name: str, *, workers: int = 0) -> DatasetReport:
    """Read all images and labels of a dataset once, with a progress bar.

    Args:
        cfg: the config, for what its model needs of the annotations.
        name: a registered dataset.
        workers: processes that read; 0 reads in this one.

    Returns:
        What is there and what is wrong with it.
    """
    report = DatasetReport(name)
    records = _load(cfg, name, report)
    if records is None:
        return report
    metadata = MetadataCatalog.get(name)
    report.images = len(records)
    loader = DataLoader(
        ImageChecker(records, metadata),
        batch_size=BATCH,
        num_workers=min(workers, -(-len(records) // BATCH)),
        collate_fn=list,
    )
    with tqdm(total=len(records), desc=name, unit="image") as bar:
        for reports in loader:
            for found in reports:
                _add(report, found)
            bar.update(len(reports))
    report.stuff = metadata.get("stuff_classes") or ()
    report.things = metadata.get("thing_classes") or ()
    for index in range(len(records)):
        _count(report, records[index])
    return report


def _load(cfg: CfgNode, name: str, report: DatasetReport) -> Items[dict] | None:
    """The records of a dataset with checked annotations; None where they cannot be read."""
    metadata, entry = MetadataCatalog.get(name), custom_entry(name)
    train = name in cfg.DATASETS.TRAIN
    masks = task_of(cfg).instances and cfg.MODEL.MASK_ON
    try:
        if entry is not None and entry["KIND"] == "semantic":
            # What loading refuses, images without labels, keeps nobody from reading the others.
            records, report.findings = list_semantic(entry)
            mapping = metadata.get("label_mapping")
            return [{**record, "label_mapping": mapping} for record in records]
        if metadata.get("evaluator_type") == "coco_panoptic_seg":
            read_panoptic(metadata)
        found: Items[dict] = load_dataset(name, masks=masks, labelled=train)
    except (ValueError, OSError) as error:
        report.findings += [line.strip() for line in str(error).splitlines()]
        return None
    outside = cfg.DATASETS.ALLOW_OUTSIDE_ROOT
    if isinstance(found, list):
        for check in (
            partial(check_inside_image_root, found, name, allow_outside=outside),
            partial(check_categories, found, cfg),
            *([partial(check_mask_format, found, cfg)] if train else []),
        ):
            try:
                check()
            except ValueError as error:
                report.findings.append(str(error))
    return found


def _add(report: DatasetReport, found: ImageReport) -> None:
    report.findings += found.findings
    if found.size is not None:
        report.sizes[found.size] += 1
    if found.pixels is None:
        return
    if report.pixels is None or report.images_with_stuff is None:
        report.pixels = np.zeros_like(found.pixels)
        report.images_with_stuff = np.zeros_like(found.pixels)
    report.pixels += found.pixels
    report.images_with_stuff += found.pixels > 0


def _count(report: DatasetReport, record: dict) -> None:
    """Count the instances of an image; of a classifier's, the image is one of its class."""
    classes = [a["category_id"] for a in record.get("annotations", ()) if not a.get("iscrowd")]
    if "class_index" in record:
        classes = [record["class_index"]]
    report.instances.update(classes)
    report.images_with_thing.update(set(classes))


def check_datasets(cfg: CfgNode, *, workers: int = 0) -> list[DatasetReport]:
    """Check all datasets of a config; arguments as :func:`check_dataset`.

    Raises:
        ValueError: the config names no dataset.
    """
    names = list(dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)))
    if not names:
        raise ValueError("DATASETS.TRAIN and DATASETS.TEST are empty: there is nothing to check")
    return [check_dataset(cfg, name, workers=workers) for name in names]
