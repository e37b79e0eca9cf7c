"""Drawing one image with its truth or a prediction, in the colours of the classes."""

import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import ColorMode, VisImage, Visualizer
from numpy.typing import ArrayLike

from srnet.data.read import read_label

DRAWN_WIDTH = 768  # pixels an image is drawn with at least, so that text and edges are fine
MAX_LEGEND = 30  # with more classes the names are written into the segments
EDGE_COLOR = (255, 255, 240)  # of the lines between semantic classes: Detectron2's off-white


class SceneVisualizer(Visualizer):
    """Detectron2's Visualizer in the colours of the classes, with or without names on segments.

    Args:
        image: (H, W, 3) uint8, RGB.
        metadata: class names and colours.
        names: whether names are written on semantic segments.
        min_score: instances below are not drawn.
        min_width: smaller images are enlarged to this width in pixels.
    """

    def __init__(
        self,
        image: np.ndarray,
        metadata: Metadata,
        names: bool,
        min_score: float = 0.5,
        min_width: int = DRAWN_WIDTH,
    ):
        scale = max(1.0, min_width / image.shape[1])
        super().__init__(image, metadata, scale=scale, instance_mode=ColorMode.SEGMENTATION)
        self.names, self.min_score = names, min_score
        self._random = np.random.default_rng(0)

    def draw_sem_seg(
        self, sem_seg: ArrayLike, area_threshold: int | None = None, alpha: float = 0.8
    ) -> VisImage:
        """Draw class indices (H, W) in the colours of their classes; others stay as they are.

        As Detectron2 does, but on the pixels: its polygons take several times as long.

        Args:
            sem_seg: class indices (H, W).
            area_threshold: classes with fewer pixels get no name.
            alpha: share of the colour.
        """
        labels = np.asarray(sem_seg)
        count = len(self.metadata.stuff_classes)
        drawn = (labels >= 0) & (labels < count)
        colors = np.array(self.metadata.stuff_colors, np.float32)[np.where(drawn, labels, 0)]
        mixed = (1 - alpha) * self.img + alpha * colors
        edges = np.zeros_like(drawn)
        edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        edges[1:] |= labels[1:] != labels[:-1]
        mixed[edges] = EDGE_COLOR
        self.output.reset_image(np.where(drawn[..., None], mixed, self.img))
        for label in np.unique(labels[drawn]) if self.names else ():
            mask = labels == label
            if mask.sum() >= (area_threshold or 0):
                color = tuple(np.array(self.metadata.stuff_colors[label]) / 255)
                lighter = self._change_color_brightness(color, brightness_factor=0.7)
                name = self.metadata.stuff_classes[label]
                self._draw_text_in_mask(mask.astype(np.uint8), name, lighter)
        return self.output

    def _draw_text_in_mask(
        self, binary_mask: np.ndarray, text: str, color: tuple[float, ...]
    ) -> None:
        if self.names:
            super()._draw_text_in_mask(binary_mask, text, color)

    def _jitter(self, color: ArrayLike) -> tuple[float, ...]:
        # Milder than Detectron2's, whose colours can no longer be found in the legend, and with
        # random numbers of its own: one picture is always drawn alike.
        change = self._random.random(3)
        jittered = np.clip(np.array(color) + 0.5 * change / np.linalg.norm(change), 0, 1)
        return tuple(0.6 * np.array(color) + 0.4 * jittered)

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

        Args:
            output: the model's; "sem_seg" may also be the class indices (H, W).

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
            classes = output["sem_seg"]
            self.draw_sem_seg(classes.argmax(dim=0).cpu() if classes.ndim == 3 else classes)
        else:
            raise ValueError(f"cannot draw a model's output with the keys {sorted(output)}")
        return self.output.get_image()

    def draw_truth(self, record: dict) -> np.ndarray | None:
        """Draw the annotations of a dataset's record; None where it has none."""
        drawn = False
        path = record.get("sem_seg_file_name")
        if path:
            classes, ignored = self.metadata.stuff_classes, self.metadata.ignore_label
            label = read_label(path, len(classes), ignored, record.get("label_mapping"))
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
    return with_colors(MetadataCatalog.get(name))


def with_colors(metadata: Metadata) -> Metadata:
    """A copy of metadata, with colours for classes that have none."""
    metadata = Metadata(**metadata.as_dict())
    palette = colormap(rgb=True)
    things = metadata.get("thing_classes") or []
    for kind, first in (("thing", 0), ("stuff", len(things))):
        classes = metadata.get(f"{kind}_classes")
        if classes and not metadata.get(f"{kind}_colors"):
            places = range(first, first + len(classes))
            colors = [palette[i % len(palette)].astype(int).tolist() for i in places]
            metadata.set(**{f"{kind}_colors": colors})
    return metadata


def legend_of(metadata: Metadata) -> dict[str, list[int]]:
    """Class names and their colours, things first; empty where there are too many to list."""
    legend: dict[str, list[int]] = {}
    for kind in ("thing", "stuff"):
        classes = metadata.get(f"{kind}_classes") or []
        legend.update(zip(classes, metadata.get(f"{kind}_colors") or [], strict=True))
    if metadata.get("thing_classes"):
        legend.pop("things", None)
    return legend if len(legend) <= MAX_LEGEND else {}
