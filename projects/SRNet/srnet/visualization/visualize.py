#!/usr/bin/env python3
"""Draw what a model predicts beside the image and its truth.

    tools/visualize.py --config-file CONFIG [--dataset NAME] [--num N] MODEL.WEIGHTS model_final.pth
    tools/visualize.py --config-file CONFIG --input a.jpg b.jpg MODEL.WEIGHTS model_final.pth

Draws N images spread evenly over a dataset, or the given files (image and prediction), one PNG
each, and `sheet.png` with all of them. Semantic, instance and panoptic models are drawn by what
they return. Any config key and its value may follow.
"""

import argparse
import os
import re
import sys

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog, detection_utils
from detectron2.structures import BoxMode
from detectron2.utils.colormap import colormap
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from detectron2.utils.visualizer import ColorMode, Visualizer
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from srnet.checkpoint import load_for_evaluation
from srnet.data import build_mapper
from srnet.data.read import read_label
from srnet.model_zoo import get_cfg
from srnet.modeling import build_model

DRAWN_WIDTH = 768  # pixels an image is drawn with at least, so that text and edges are fine
MAX_LEGEND = 30  # with more classes the names are written into the segments
SHEET_ROWS = 12
CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")


class SceneVisualizer(Visualizer):
    """Detectron2's Visualizer in the colours of the classes, with or without names on segments.

    Args:
        image: (H, W, 3) uint8, RGB.
        metadata: class names and colours.
        names: whether names are written on semantic segments.
        min_score: instances below are not drawn.
    """

    def __init__(self, image: np.ndarray, metadata: Metadata, names: bool, min_score: float = 0.5):
        scale = max(1.0, DRAWN_WIDTH / image.shape[1])
        super().__init__(image, metadata, scale=scale, instance_mode=ColorMode.SEGMENTATION)
        self.names, self.min_score = names, min_score

    def _draw_text_in_mask(self, binary_mask, text, color):
        if self.names:
            super()._draw_text_in_mask(binary_mask, text, color)

    def _jitter(self, color):
        # Milder than Detectron2's, whose colours can no longer be found in the legend.
        return tuple(0.6 * np.array(color) + 0.4 * np.array(super()._jitter(color)))

    def _draw_annotations(self, annotations: list[dict], boxes: bool) -> None:
        classes = [annotation["category_id"] for annotation in annotations]
        colors = np.array(self.metadata.thing_colors) / 255
        corners = [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
        ]
        masks = [a["segmentation"] for a in annotations if "segmentation" in a]
        self.overlay_instances(
            boxes=corners if boxes or not masks else None,
            masks=masks or None,
            labels=[self.metadata.thing_classes[c] for c in classes],
            assigned_colors=[self._jitter(colors[c]) for c in classes],
            alpha=0.7,
        )

    def draw_prediction(self, output: dict) -> np.ndarray:
        """Draw what a model returned for an image; (H', W', 3) uint8.

        Raises:
            ValueError: it holds none of "panoptic_seg", "instances" and "sem_seg".
        """
        if "panoptic_seg" in output:
            segments, info = output["panoptic_seg"]
            self.draw_panoptic_seg(segments.cpu(), info)
        elif "instances" in output:
            instances = output["instances"].to("cpu")
            self.draw_instance_predictions(instances[instances.scores >= self.min_score])
        elif "sem_seg" in output:
            self.draw_sem_seg(output["sem_seg"].argmax(dim=0).cpu())
        else:
            raise ValueError(f"cannot draw a model's output with the keys {sorted(output)}")
        return self.output.get_image()

    def draw_truth(self, record: dict) -> np.ndarray | None:
        """Draw the annotations of a dataset's record; None where it has none."""
        drawn = False
        path = record.get("sem_seg_file_name")
        if path:
            classes, ignored = self.metadata.stuff_classes, self.metadata.ignore_label
            label = read_label(path, len(classes), ignored)
            if classes[0] == "things":  # Panoptic FPN's targets: its things are in "annotations"
                label[label == 0] = ignored
            self.draw_sem_seg(np.where(label == ignored, len(classes), label))
            drawn = True
        if record.get("annotations"):
            self._draw_annotations(record["annotations"], boxes=not drawn)
            drawn = True
        if "pan_seg_file_name" in record:
            self.draw_dataset_dict({k: record[k] for k in ("pan_seg_file_name", "segments_info")})
            drawn = True
        return self.output.get_image() if drawn else None


def metadata_with_colors(name: str) -> Metadata:
    """The metadata of a dataset, with colours for classes that have none."""
    metadata = Metadata(**MetadataCatalog.get(name).as_dict())
    palette = colormap(rgb=True)
    for kind in ("thing", "stuff"):
        classes = metadata.get(f"{kind}_classes")
        if classes and not metadata.get(f"{kind}_colors"):
            colors = [palette[i % len(palette)].astype(int).tolist() for i in range(len(classes))]
            metadata.set(**{f"{kind}_colors": colors})
    return metadata


def legend_of(metadata: Metadata) -> dict[str, list[int]]:
    """Class names and their colours, things first; empty where there are too many to list."""
    legend = {}
    for kind in ("thing", "stuff"):
        classes = metadata.get(f"{kind}_classes") or []
        legend.update(zip(classes, metadata.get(f"{kind}_colors") or [], strict=True))
    if metadata.get("thing_classes"):
        legend.pop("things", None)
    return legend if len(legend) <= MAX_LEGEND else {}


def draw_sheet(path: str, rows: list[dict[str, np.ndarray]], legend: dict, columns: int = 1):
    """Write rows of titled pictures, `columns` rows side by side, with a legend of the classes."""
    titles = list(rows[0])
    lines = -(-len(rows) // columns)
    ratio = max(p.shape[0] / p.shape[1] for row in rows for p in row.values())
    width, cell = 3.2, 3.2 * ratio
    legend_height = 0.3 * -(-len(legend) // (4 * columns)) if legend else 0.0
    size = (width * len(titles) * columns, cell * lines + 0.3 + legend_height)
    figure = Figure(figsize=size, dpi=160)
    grid = figure.subplots(lines, len(titles) * columns, squeeze=False)
    figure.subplots_adjust(
        0.005, legend_height / size[1], 0.995, 1 - 0.3 / size[1], wspace=0.02, hspace=0.02
    )
    for axes in grid.flat:
        axes.axis("off")
    for i, row in enumerate(rows):
        for j, (title, picture) in enumerate(row.items()):
            axes = grid[i // columns, i % columns * len(titles) + j]
            axes.imshow(picture, interpolation="antialiased")
            if i < columns:
                axes.set_title(title, fontsize=11, pad=4)
    if legend:
        patches = [Patch(color=np.array(color) / 255, label=n) for n, color in legend.items()]
        per_line = 4 * columns if len(legend) > 5 * columns else len(legend)
        figure.legend(handles=patches, loc="lower center", ncols=per_line, frameon=False)
    figure.savefig(path)


def choose_records(arguments: argparse.Namespace, dataset: str) -> list[dict]:
    """The images to draw, as dataset records.

    Raises:
        FileNotFoundError: a given image, or the dataset, is missing.
    """
    if arguments.input:
        for path in arguments.input:
            if not PathManager.isfile(path):
                raise FileNotFoundError(f"the image {path} is missing")
        return [{"file_name": path} for path in arguments.input]
    records = DatasetCatalog.get(dataset)
    chosen = np.linspace(0, len(records) - 1, min(arguments.num, len(records)))
    return [records[int(i)] for i in chosen.round()]


def load_model(cfg: CfgNode) -> torch.nn.Module:
    """Build the model of a config with its weights, for inference.

    Raises:
        FileNotFoundError: `MODEL.WEIGHTS` is empty or no file.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        raise FileNotFoundError("no weights: end the command with MODEL.WEIGHTS and a checkpoint")
    if "://" not in weights and not os.path.isfile(weights):
        raise FileNotFoundError(f"the checkpoint MODEL.WEIGHTS={weights} is missing")
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    return model.eval()


def visualize(arguments: argparse.Namespace) -> list[str]:
    """Draw as the command line says; return the paths written, the sheet last."""
    cfg = get_cfg(arguments.config_file, arguments.opts)
    dataset = arguments.dataset or (cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else "")
    if dataset not in DatasetCatalog:
        known = ", ".join(n for n in DatasetCatalog.list() if n.startswith(dataset[:4] or "scenes"))
        raise ValueError(f"no dataset {dataset!r} is registered: give --dataset, such as {known}")
    records = choose_records(arguments, dataset)
    model, mapper = load_model(cfg), build_mapper(cfg, is_train=False)
    metadata = metadata_with_colors(dataset)
    legend = legend_of(metadata)
    output = arguments.output or os.path.join(cfg.OUTPUT_DIR, "visualize")
    os.makedirs(output, exist_ok=True)
    rows, paths, sheet = [], [], os.path.join(output, "sheet.png")
    for record in records:
        inputs = mapper(record)
        image = detection_utils.read_image(record["file_name"], "RGB")
        with torch.no_grad():
            prediction = model([inputs])[0]
        row = {"image": image}
        np.random.seed(0)  # Visualizer varies the colours of instances at random
        truth = SceneVisualizer(image, metadata, not legend).draw_truth(record)
        if truth is not None:
            row["truth"] = truth
        drawing = SceneVisualizer(image, metadata, not legend, arguments.min_score)
        row["prediction"] = drawing.draw_prediction(prediction)
        stem = os.path.splitext(os.path.basename(record["file_name"]))[0]
        path = os.path.join(output, f"{stem}.png")
        if path in (*paths, sheet):  # files of one name in several folders
            path = os.path.join(output, f"{stem}_{len(rows)}.png")
        paths.append(path)
        draw_sheet(paths[-1], [row], legend)
        rows.append(row)
    draw_sheet(sheet, rows[:SHEET_ROWS], legend, columns=2 if len(rows) > 3 else 1)
    return [*paths, sheet]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--dataset", help="a registered one; the config's first test set otherwise")
    parser.add_argument("--num", type=int, default=8, metavar="N", help="images of the dataset, 8")
    parser.add_argument("--input", nargs="+", metavar="IMAGE", help="draw these, without truth")
    parser.add_argument("--output", metavar="DIR", help="OUTPUT_DIR/visualize otherwise")
    parser.add_argument("--min-score", type=float, default=0.5, help="of instances, 0.5")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    parsed = parser.parse_args(arguments)
    for i, item in enumerate(parsed.input or ()):  # argparse counts keys and values as images too
        if CONFIG_KEY.fullmatch(item) and not os.path.exists(item):
            parsed.input, parsed.opts = parsed.input[:i], parsed.input[i:] + parsed.opts
            break
    if parsed.num < 1:
        parser.error(f"--num {parsed.num}: at least 1")
    return parsed


if __name__ == "__main__":
    options = parse()
    setup_logger(name="srnet")
    try:
        written = visualize(options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        sys.exit(f"visualize: {error}")
    print(f"{len(written) - 1} images in {os.path.dirname(written[-1])}; all in {written[-1]}")
