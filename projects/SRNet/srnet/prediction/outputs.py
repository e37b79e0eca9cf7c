"""What is written for each picture: one writer a form.

A writer works in two steps. `render` makes what belongs to one picture and writes its own file, in
threads. `append` adds to files of all pictures, in the order of the inputs.
"""

import csv
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json

from srnet.data.paths import inside
from srnet.visualization.scene import SceneVisualizer

from .classes import categories, category_ids, is_all_things
from .files import GrowingArrays, GrowingFile, partial_path, write_whole
from .inputs import Clip

TOP = 5
# What the output of a meta-architecture has, the first drawn.
OUTPUTS = {
    "GeneralizedRCNN": ("instances",),
    "ImageClassifier": ("logits",),
    "PanopticFPN": ("panoptic_seg", "instances"),
    "SRSemanticSegmentor": ("sem_seg",),
    "SemanticSegmentor": ("sem_seg",),
}


@dataclass(frozen=True)
class Result:
    """A predicted picture.

    Attributes:
        index: its place among the inputs, from 0.
        name: the name of its outputs.
        path: where it came from.
        image: (H, W, 3) uint8, RGB.
        output: as :func:`compact` returns it.
        clip: of a frame, its video.
    """

    index: int
    name: str
    path: str
    image: np.ndarray
    output: dict[str, Any]
    clip: Clip | None


def compact(output: dict, keys: Sequence[str]) -> dict[str, Any]:
    """What is written of a model's output, on the CPU and small enough to wait for its writer.

    "sem_seg" becomes the class indices (H, W), "logits" the probabilities (classes,), both NumPy.

    Args:
        output: a model's.
        keys: the entries that are kept.

    Raises:
        ValueError: the output lacks one.
    """
    found: dict[str, Any] = {}
    for key in keys:
        if key not in output:
            raise ValueError(
                f"the model's output has no {key!r}, only {', '.join(output)}: is "
                "MODEL.PANOPTIC_FPN.COMBINE.ENABLED False?"
            )
        if key == "sem_seg":
            count = output[key].shape[0]
            dtype = torch.uint8 if count <= 256 else torch.int32
            # The indices of max: argmax over the first axis takes four times as long on a CPU.
            found[key] = output[key].max(0).indices.to("cpu", dtype).numpy()
        elif key == "logits":
            found[key] = output[key].softmax(0).cpu().numpy()
        elif key == "panoptic_seg":
            segments, info = output[key]
            found[key] = segments.cpu(), info
        else:
            found[key] = output[key].to("cpu")
    return found


class Writer(Protocol):
    """Writes one form of the results."""

    def render(self, result: Result) -> Any:
        """Write what belongs to one picture alone; returns what `append` takes."""

    def append(self, result: Result, rendered: Any) -> None:
        """Add a picture to the files of all."""

    def close(self) -> None:
        """Finish the files of all, with the pictures that were added."""


class PictureWriter:
    """Drawn pictures, by Detectron2's Visualizer: a JPEG for each, an mp4 for each video."""

    def __init__(self, folder: Path, classes: Metadata):
        self.folder, self.classes = folder / "pictures", classes
        self._clip: Clip | None = None
        self._video: cv2.VideoWriter | None = None
        self._drawing = threading.Lock()  # matplotlib does not promise to draw in threads

    def render(self, result: Result) -> np.ndarray | None:
        """Draw; write the picture unless it is a frame."""
        with self._drawing:
            picture = self._draw(result)
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if result.clip is not None:
            return bgr
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        write_whole(inside(self.folder, f"{result.name}.jpg"), encoded.tobytes())
        return None

    def append(self, result: Result, rendered: np.ndarray | None) -> None:
        """Add a frame to its video.

        Raises:
            OSError: OpenCV cannot write videos.
        """
        if result.clip != self._clip:
            self.close()
        if rendered is None or result.clip is None:
            return
        if self._video is None:
            self._clip = result.clip
            path = partial_path(inside(self.folder, f"{result.clip.name}.mp4"))
            size = rendered.shape[1], rendered.shape[0]
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(path), code, result.clip.fps, size)
            if not self._video.isOpened():
                raise OSError(f"OpenCV cannot write the video {path}: has it FFmpeg?")
        self._video.write(rendered)

    def close(self) -> None:
        """End the video."""
        if self._video is not None and self._clip is not None:
            self._video.release()
            path = inside(self.folder, f"{self._clip.name}.mp4")
            os.replace(partial_path(path), path)
        self._video = self._clip = None

    def _draw(self, result: Result) -> np.ndarray:
        drawing = SceneVisualizer(result.image, self.classes, names=True, min_score=0, min_width=0)
        if "logits" not in result.output:
            return drawing.draw_prediction(result.output)
        probabilities = result.output["logits"]
        names, size = self.classes.get("classes"), max(10.0, drawing.output.height / 24)
        lines = [f"{names[i]} {probabilities[i]:.0%}" for i in best(probabilities)]
        drawing.draw_text(
            "\n".join(lines), (4, 4), font_size=0.6 * size, color="w", horizontal_alignment="left"
        )
        return drawing.output.get_image()


class LabelWriter:
    """The class index of each pixel as a PNG, with `classes.json` beside them."""

    def __init__(self, folder: Path, classes: Metadata):
        self.folder = folder / "labels"
        names, colors = classes.get("stuff_classes"), classes.get("stuff_colors")
        listed = [
            {"id": i, "name": name, "color": [int(c) for c in color]}
            for i, (name, color) in enumerate(zip(names, colors, strict=True))
        ]
        text = json.dumps({"classes": listed}, indent=1)
        write_whole(self.folder / "classes.json", text.encode())

    def render(self, result: Result) -> None:
        """Write the PNG: 8 bits a pixel, 16 where there are more than 256 classes."""
        labels = result.output["sem_seg"]
        labels = labels if labels.dtype == np.uint8 else labels.astype(np.uint16)
        encoded = cv2.imencode(".png", labels)[1]
        write_whole(inside(self.folder, f"{result.name}.png"), encoded.tobytes())

    def append(self, result: Result, rendered: None) -> None:
        """Nothing is written for all."""

    def close(self) -> None:
        """Nothing is open."""


class CocoWriter:
    """Instances in COCO's result format, and what its image ids stand for.

    `coco_results.json` is what pycocotools' `loadRes` takes; `coco_images.json` is a data set in
    COCO's format with the images and categories alone. Category ids are the data set's own.
    """

    def __init__(self, folder: Path, classes: Metadata):
        self._ids = category_ids(classes, "thing")
        self._results = GrowingArrays(folder / "coco_results.json", (None,), {})
        rest = {"annotations": [], "categories": categories(classes, "thing")}
        self._images = GrowingArrays(folder / "coco_images.json", ("images",), rest)

    def render(self, result: Result) -> list[dict]:
        """The instances of a picture."""
        found = instances_to_coco_json(result.output["instances"], result.index + 1)
        return [{**x, "category_id": self._ids[x["category_id"]]} for x in found]

    def append(self, result: Result, rendered: list[dict]) -> None:
        """Add a picture and its instances."""
        self._images.append("images", image_entry(result))
        for instance in rendered:
            self._results.append(None, instance)

    def close(self) -> None:
        """Finish both files."""
        self._results.close()
        self._images.close()


class PanopticWriter:
    """Segments in COCO's panoptic format: a PNG for each picture, and `panoptic.json`."""

    def __init__(self, folder: Path, classes: Metadata):
        self.folder = folder / "panoptic"
        self._ids = {True: category_ids(classes, "thing"), False: category_ids(classes, "stuff")}
        names = classes.get("stuff_classes") or []
        self._left_out = {i for i, name in enumerate(names) if is_all_things(classes, name)}
        rest = {"categories": categories(classes, "thing", "stuff")}
        self._file = GrowingArrays(folder / "panoptic.json", ("images", "annotations"), rest)

    def render(self, result: Result) -> list[dict]:
        """Write the PNG: a segment's id is R + 256 G + 65536 B."""
        segments, info = result.output["panoptic_seg"]
        ids = segments.numpy()
        entries = []
        for segment in info:
            thing, category = bool(segment["isthing"]), int(segment["category_id"])
            if not thing and category in self._left_out:
                ids = np.where(ids == segment["id"], 0, ids)
                continue
            rows, columns = np.nonzero(ids == segment["id"])
            if not len(rows):
                continue
            left, top = int(columns.min()), int(rows.min())
            size = [int(columns.max()) - left + 1, int(rows.max()) - top + 1]
            entry: dict[str, Any] = {
                "id": int(segment["id"]),
                "category_id": self._ids[thing][category],
            }
            entry |= {"area": len(rows), "bbox": [left, top, *size], "iscrowd": 0}
            entries.append(entry | ({"score": float(segment["score"])} if thing else {}))
        bgr = np.stack([ids >> 16, ids >> 8, ids], axis=-1) & 255
        encoded = cv2.imencode(".png", bgr.astype(np.uint8))[1]
        write_whole(inside(self.folder, f"{result.name}.png"), encoded.tobytes())
        return entries

    def append(self, result: Result, rendered: list[dict]) -> None:
        """Add a picture and its segments."""
        image = image_entry(result)
        self._file.append("images", image)
        annotation = {"image_id": image["id"], "file_name": f"{result.name}.png"}
        self._file.append("annotations", {**annotation, "segments_info": rendered})

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class CsvWriter:
    """The five best classes of each picture and their probabilities, a row a picture."""

    def __init__(self, folder: Path, classes: Metadata):
        self._names = classes.get("classes")
        self._file = GrowingFile(folder / "top5.csv")
        self._rows = csv.writer(self._file.file)
        places = range(1, min(TOP, len(self._names)) + 1)
        heads = (f"{what}{i}" for i in places for what in ("class", "probability"))
        self._rows.writerow(["file", *heads])

    def render(self, result: Result) -> list[str]:
        """The cells of a picture."""
        probabilities = result.output["logits"]
        cells = ((self._names[i], f"{probabilities[i]:.6f}") for i in best(probabilities))
        return [result.path, *(cell for pair in cells for cell in pair)]

    def append(self, result: Result, rendered: list[str]) -> None:
        """Add a row."""
        self._rows.writerow(rendered)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


# What --save may name: the writer, and what it needs of a model's output; "" for the first it has.
FORMS: dict[str, tuple[type, str]] = {
    "pictures": (PictureWriter, ""),
    "labels": (LabelWriter, "sem_seg"),
    "coco": (CocoWriter, "instances"),
    "panoptic": (PanopticWriter, "panoptic_seg"),
    "csv": (CsvWriter, "logits"),
}


def needed_outputs(architecture: str, forms: Sequence[str]) -> list[str]:
    """The entries of a model's output that forms are made of.

    Args:
        architecture: `MODEL.META_ARCHITECTURE`.
        forms: keys of `FORMS`.

    Raises:
        ValueError: a form is unknown, or the model has nothing to make it of.
    """
    if architecture not in OUTPUTS:
        raise ValueError(
            f"MODEL.META_ARCHITECTURE is {architecture}; predicted are {', '.join(OUTPUTS)}"
        )
    has = OUTPUTS[architecture]
    fitting = [form for form, (_, key) in FORMS.items() if not key or key in has]
    for form in forms:
        if form not in fitting:
            raise ValueError(
                f"cannot save {form!r} of the model {architecture}: it has {', '.join(fitting)}"
            )
    return sorted({FORMS[form][1] or has[0] for form in forms})


def best(probabilities: np.ndarray) -> list[int]:
    """The classes of the highest probabilities, at most five, the best first."""
    return [int(i) for i in np.argsort(-probabilities, kind="stable")[:TOP]]


def image_entry(result: Result) -> dict:
    """A picture in COCO's form; ids count the inputs from 1."""
    height, width = result.image.shape[:2]
    return {"id": result.index + 1, "file_name": result.path, "height": height, "width": width}
