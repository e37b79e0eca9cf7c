"""Pictures of what a model predicts: chosen images, one file each, and a sheet of all."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.file_io import PathManager
from torch import nn

from srnet.checkpoint import load_for_evaluation
from srnet.checkpoint.places import find_place
from srnet.data import build_mapper
from srnet.data.paths import check_inside_image_root, inside
from srnet.data.read import read_image
from srnet.data.records import load_dataset
from srnet.modeling import build_model

from .scene import SceneVisualizer, legend_of, metadata_with_colors
from .sheet import draw_sheet

SHEET_ROWS = 12


def visualize(
    cfg: CfgNode,
    *,
    dataset: str = "",
    num: int = 8,
    images: Sequence[str] = (),
    output: str | None = None,
    min_score: float = 0.5,
) -> list[str]:
    """Draw the predictions of a model.

    Args:
        cfg: the config of the model; `MODEL.WEIGHTS` is loaded.
        dataset: a registered one, for images, truth and colours; the first of `DATASETS.TEST` by
            default.
        num: images of the dataset, spread evenly over it.
        images: paths of images that are drawn instead, without truth.
        output: the folder of the pictures; `OUTPUT_DIR/visualize` by default.
        min_score: instances with a lower score are not drawn.

    Returns:
        The paths written, the sheet of all pictures last.

    Raises:
        FileNotFoundError: an image, the dataset or the weights are missing.
        ValueError: no such dataset is registered, or an image does not decode; with
            `DATALOADER.SKIP_BAD_IMAGES`, if no image does.
    """
    dataset = dataset or (cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else "")
    if dataset not in DatasetCatalog:
        known = ", ".join(n for n in DatasetCatalog.list() if n.startswith(dataset[:4] or "scenes"))
        raise ValueError(f"no dataset {dataset!r} is registered: give --dataset, such as {known}")
    records = choose_records(dataset, num, images)
    if not images:
        check_inside_image_root(records, dataset, allow_outside=cfg.DATASETS.ALLOW_OUTSIDE_ROOT)
    model, mapper = load_model(cfg), build_mapper(cfg, is_train=False)
    metadata = metadata_with_colors(dataset)
    legend = legend_of(metadata)
    output = output or os.path.join(cfg.OUTPUT_DIR, "visualize")
    os.makedirs(output, exist_ok=True)
    rows: list[dict[str, np.ndarray]] = []
    paths: list[str] = []
    sheet = os.path.join(output, "sheet.png")
    for record in records:
        inputs = mapper(record)
        if inputs is None:  # DATALOADER.SKIP_BAD_IMAGES; the mapper has said so
            continue
        image = read_image(record["file_name"], "RGB")
        with torch.no_grad():
            prediction = model([inputs])[0]
        row = {"image": image}
        np.random.seed(0)  # Visualizer varies the colours of instances at random
        truth = SceneVisualizer(image, metadata, not legend).draw_truth(record)
        if truth is not None:
            row["truth"] = truth
        drawing = SceneVisualizer(image, metadata, not legend, min_score)
        row["prediction"] = drawing.draw_prediction(prediction)
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        path = str(inside(output, f"{stem}.png"))
        if path in (*paths, sheet):  # files of one name in several folders
            path = os.path.join(output, f"{stem}_{len(rows)}.png")
        paths.append(path)
        draw_sheet(paths[-1], [row], legend)
        rows.append(row)
    if not rows:
        raise ValueError(f"none of the {len(records)} images can be read: nothing is drawn")
    draw_sheet(sheet, rows[:SHEET_ROWS], legend, columns=2 if len(rows) > 3 else 1)
    return [*paths, sheet]


def choose_records(dataset: str, num: int, images: Sequence[str]) -> list[dict]:
    """The images to draw, as dataset records.

    Raises:
        FileNotFoundError: a given image, or the dataset, is missing.
        ValueError: the dataset's annotations are wrong.
    """
    for path in images:
        if not PathManager.isfile(path):
            raise FileNotFoundError(f"the image {path} is missing")
    if images:
        return [{"file_name": path} for path in images]
    records: Any = load_dataset(dataset, labelled=False)
    chosen = np.linspace(0, len(records) - 1, min(num, len(records)))
    return [records[int(i)] for i in chosen.round()]


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config with its weights, for inference.

    Raises:
        FileNotFoundError: `MODEL.WEIGHTS` is empty or no file.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        raise FileNotFoundError("no weights: end the command with MODEL.WEIGHTS and a checkpoint")
    path = find_place(weights).path
    if "://" not in path and not os.path.isfile(path):
        raise FileNotFoundError(f"the checkpoint MODEL.WEIGHTS={weights} is missing")
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    return model.eval()
