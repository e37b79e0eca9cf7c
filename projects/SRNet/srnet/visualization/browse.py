"""Sheets of training samples as the model sees them, from the real loader."""

import itertools
import os
from collections.abc import Iterator

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Instances

from srnet.data import ImageFolder, build_mapper, build_train_loader

from .scene import SceneVisualizer, legend_of, metadata_with_colors
from .sheet import draw_sheet

SHEET_ROWS = 8


def browse(cfg: CfgNode, *, num: int = 16, output: str | None = None) -> list[str]:
    """Draw the first samples of a training.

    They are those that a training of this config begins with, where `SEED` is set.

    Args:
        cfg: the config.
        num: samples.
        output: the folder of the sheets; `OUTPUT_DIR/browse` by default.

    Returns:
        The paths of the sheets, of up to 8 samples each.

    Raises:
        FileNotFoundError: data is missing.
        ValueError: `DATASETS.TRAIN` is empty, or the data is wrong; the message names the file.
    """
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: name a dataset to draw")
    name = cfg.DATASETS.TRAIN[0]
    metadata = metadata_with_colors(name)
    classes = _class_names(name)
    legend = {} if classes else legend_of(metadata)
    folder = output or os.path.join(cfg.OUTPUT_DIR, "browse")
    samples = itertools.islice(_samples(cfg), num)
    paths: list[str] = []
    while chunk := list(itertools.islice(samples, SHEET_ROWS)):
        rows = [_draw(cfg, sample, metadata, classes, names=not legend) for sample in chunk]
        os.makedirs(folder, exist_ok=True)
        paths.append(os.path.join(folder, f"sheet_{len(paths) + 1}.png"))
        draw_sheet(paths[-1], rows, legend, columns=2 if len(rows) > 1 else 1)
    return paths


def _samples(cfg: CfgNode) -> Iterator[dict]:
    for batch in build_train_loader(cfg, build_mapper(cfg, is_train=True)):
        yield from batch


def _class_names(name: str) -> list[str]:
    """The classes of a folder of classes; empty for other datasets."""
    records = DatasetCatalog.get(name)
    return records.classes if isinstance(records, ImageFolder) else []


def _draw(
    cfg: CfgNode, sample: dict, metadata: Metadata, classes: list[str], *, names: bool
) -> dict[str, np.ndarray]:
    """The pictures of a sample with their titles."""
    image = convert_image_to_rgb(sample["image"].permute(1, 2, 0), cfg.INPUT.FORMAT)
    image = np.ascontiguousarray(image.astype(np.uint8))
    drawing = SceneVisualizer(image, metadata, names)
    if classes:
        drawing.draw_text(_class_text(sample, classes), (image.shape[1] / 2, 0))
        return {"image": drawing.output.get_image()}
    np.random.seed(0)  # Visualizer varies the colours of instances at random
    if "sem_seg" in sample:
        label, known = sample["sem_seg"].numpy(), len(metadata.stuff_classes)
        hidden = label == metadata.ignore_label
        if metadata.stuff_classes[0] == "things":  # of Panoptic FPN: its instances are drawn below
            hidden |= label == 0
        drawing.draw_sem_seg(np.where(hidden, known, label))
    if "instances" in sample:
        _draw_instances(drawing, sample["instances"], metadata)
    return {"image": image, "labels": drawing.output.get_image()}


def _draw_instances(drawing: SceneVisualizer, found: Instances, metadata: Metadata) -> None:
    classes = found.gt_classes.tolist()
    colors = np.array(metadata.thing_colors) / 255
    drawing.overlay_instances(
        boxes=found.gt_boxes,
        masks=found.gt_masks if found.has("gt_masks") else None,
        labels=[metadata.thing_classes[c] for c in classes],
        assigned_colors=[colors[c] for c in classes],
        alpha=0.6,
    )


def _class_text(sample: dict, classes: list[str]) -> str:
    """The class of an image; the two with the greatest shares of a mixed one."""
    if "target" not in sample:
        return classes[sample["class_index"]]
    shares, found = sample["target"].sort(descending=True)
    parts = [
        f"{share:.0%} {classes[int(c)]}"
        for share, c in zip(shares.tolist(), found, strict=True)
        if share > 0
    ]
    return " + ".join(parts[:2])
