"""The JSON beside an exported file: what a program needs to call it and to read its outputs."""

from typing import Any

from detectron2.config import CfgNode

from srnet.data.classes import known_classes

from .graph import Graph

CLASS_KEYS = ("thing_classes", "thing_colors", "stuff_classes", "stuff_colors", "classes")


def describe(cfg: CfgNode, graph: Graph, *, file: str, kind: str, multiple_of: int) -> dict:
    """Describe an exported file.

    Args:
        cfg: the config of the model.
        graph: what was written.
        file: its name.
        kind: its format.
        multiple_of: what height and width must be multiples of.

    Returns:
        What JSON can hold.
    """
    image = {
        "name": "image",
        "layout": graph.layout,
        "type": "float32",
        "channels": cfg.INPUT.FORMAT,
        "range": [0, 255],
        "shape": [
            graph.input_axes.get(axis, length) for axis, length in enumerate(graph.example.shape)
        ],
        "multiple_of": multiple_of,
        "resize": _resize(cfg, graph),
    }
    result: dict[str, Any] = {
        "file": file,
        "format": kind,
        "model": cfg.MODEL.META_ARCHITECTURE,
        "input": image,
        "normalization": {
            "inside": True,
            "mean": list(cfg.MODEL.PIXEL_MEAN),
            "std": list(cfg.MODEL.PIXEL_STD),
        },
        "outputs": graph.outputs,
        "classes": _classes(cfg),
    }
    if "sem_seg" in graph.outputs:
        node = cfg.MODEL.PANOPTIC_FPN.COMBINE
        result["panoptic"] = {
            "overlap": node.OVERLAP_THRESH,
            "stuff_area": node.STUFF_AREA_LIMIT,
            "min_score": node.INSTANCES_CONFIDENCE_THRESH,
        }
    return result


def _resize(cfg: CfgNode, graph: Graph) -> dict[str, int] | None:
    """How an evaluation resizes an image before; None where it does not."""
    if cfg.MODEL.META_ARCHITECTURE == "ImageClassifier":
        options = cfg.INPUT.CLASSIFICATION
        return {"short_side": options.RESIZE_TEST, "center_crop": options.SIZE_TEST}
    if not cfg.INPUT.MIN_SIZE_TEST:
        return None
    return {"short_side": cfg.INPUT.MIN_SIZE_TEST, "long_side_at_most": cfg.INPUT.MAX_SIZE_TEST}


def _classes(cfg: CfgNode) -> dict[str, list]:
    """The class names and colours as far as a data set of the config knows them."""
    known = known_classes(cfg)
    metadata = known.as_dict() if known else {}
    return {key: list(metadata[key]) for key in CLASS_KEYS if metadata.get(key)}
