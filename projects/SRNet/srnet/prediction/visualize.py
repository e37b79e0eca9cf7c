"""Sheets of what models predict: chosen images, one file each, and a sheet of all."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from srnet.checkpoint import load_trained_model
from srnet.data import build_mapper
from srnet.data.classes import class_counts
from srnet.data.paths import check_inside_image_root, inside
from srnet.data.read import read_image
from srnet.data.records import load_dataset
from srnet.visualization.scene import SceneVisualizer, legend_of, metadata_with_colors
from srnet.visualization.sheet import draw_sheet

SHEET_ROWS = 12


def visualize(
    cfgs: CfgNode | Mapping[str, CfgNode],
    *,
    dataset: str = "",
    num: int = 8,
    images: Sequence[str] = (),
    output: str | None = None,
    min_score: float = 0.5,
) -> list[str]:
    """Draw the predictions of a model, or of several side by side, as the paper's figures do.

    Args:
        cfgs: the config of the model, `MODEL.WEIGHTS` is loaded; or a config for each title.
        dataset: a registered one, for images, truth and colours; by default the first of the first
            config's `DATASETS.TEST`.
        num: images of the dataset, spread evenly over it.
        images: paths of images that are drawn instead, without truth.
        output: the folder of the pictures; `OUTPUT_DIR/visualize` of the first config by default.
        min_score: instances with a lower score are not drawn.

    Returns:
        The paths written, the sheet of all pictures last.

    Raises:
        FileNotFoundError: an image, the dataset or the weights are missing.
        ValueError: no such dataset is registered, a model has another number of classes, or an
            image does not decode; with `DATALOADER.SKIP_BAD_IMAGES`, if no image does.
    """
    models = {"prediction": cfgs} if isinstance(cfgs, CfgNode) else dict(cfgs)
    cfg = next(iter(models.values()))
    dataset = dataset or (cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else "")
    if dataset not in DatasetCatalog:
        known = ", ".join(n for n in DatasetCatalog.list() if n.startswith(dataset[:4] or "scenes"))
        raise ValueError(f"no dataset {dataset!r} is registered: give --dataset, such as {known}")
    records = choose_records(dataset, num, images)
    if not images:
        check_inside_image_root(records, dataset, allow_outside=cfg.DATASETS.ALLOW_OUTSIDE_ROOT)
    for title, model_cfg in models.items():
        _check_classes(title, model_cfg, dataset)
    predict = {title: _predictor(model_cfg) for title, model_cfg in models.items()}
    metadata = metadata_with_colors(dataset)
    legend = legend_of(metadata)
    output = output or os.path.join(cfg.OUTPUT_DIR, "visualize")
    os.makedirs(output, exist_ok=True)
    rows: list[dict[str, np.ndarray]] = []
    paths: list[str] = []
    sheet = os.path.join(output, "sheet.png")
    for record in records:
        predictions = {title: predicted(record) for title, predicted in predict.items()}
        if None in predictions.values():  # DATALOADER.SKIP_BAD_IMAGES; the mapper has said so
            continue
        image = read_image(record["file_name"], "RGB")
        row = {"image": image}
        truth = SceneVisualizer(image, metadata, not legend).draw_truth(record)
        if truth is not None:
            row["truth"] = truth
        for title, prediction in predictions.items():
            drawing = SceneVisualizer(image, metadata, not legend, min_score)
            row[title] = drawing.draw_prediction(prediction)
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        path = str(inside(output, f"{stem}.png"))
        if path in (*paths, sheet):  # files of one name in several folders
            path = os.path.join(output, f"{stem}_{len(rows)}.png")
        paths.append(path)
        draw_sheet(paths[-1], [row], legend)
        rows.append(row)
    if not rows:
        raise ValueError(f"none of the {len(records)} images can be read: nothing is drawn")
    wide = len(rows) > 3 and len(models) == 1
    draw_sheet(sheet, rows[:SHEET_ROWS], legend, columns=2 if wide else 1)
    return [*paths, sheet]


def _predictor(cfg: CfgNode) -> Any:
    """From a dataset's record to a model's output; None for an image that is passed over."""
    model, mapper = load_trained_model(cfg), build_mapper(cfg, is_train=False)

    def predict(record: dict) -> dict | None:
        inputs = mapper(record)
        if inputs is None:
            return None
        with torch.no_grad():
            return model([inputs])[0]

    return predict


def _check_classes(title: str, cfg: CfgNode, dataset: str) -> None:
    """Refuse a model of other classes than those it would be drawn in."""
    for key, count in class_counts(cfg).items():
        names = MetadataCatalog.get(dataset).get(key)
        if names is None or len(names) != count:
            raise ValueError(
                f"{title} has {count} {key}, and the dataset {dataset} has {len(names or ())}: "
                "give the --dataset that it was trained on"
            )


def titles_of(configs: Sequence[str], weights: Sequence[str]) -> list[str]:
    """Short titles for models, the first kind that tells them apart.

    The configs' names; the weights' folders; the weights' names; the weights' paths.

    Raises:
        ValueError: two models are the same.
    """
    plain = [os.path.splitext(w)[0] for w in weights]
    kinds = (
        [os.path.splitext(os.path.basename(config))[0] for config in configs],
        [os.path.basename(os.path.dirname(os.path.abspath(w))) for w in weights],
        [os.path.basename(w) for w in plain],
        plain,
    )
    for titles in kinds:
        if len(set(titles)) == len(titles):
            return titles
    raise ValueError(f"two models are the same: {', '.join(weights)}")


def choose_records(dataset: str, num: int | None, images: Sequence[str]) -> list[dict]:
    """The images to draw, as dataset records: those given, or `num` of the dataset (None for all).

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
    return spread_evenly(records, num)


def spread_evenly(records: Sequence[dict], num: int | None) -> list[dict]:
    """Choose `num` of the records, the first and the last among them; all for None or too many."""
    count = len(records) if num is None else min(num, len(records))
    return [records[int(i)] for i in np.linspace(0, len(records) - 1, count).round()]
