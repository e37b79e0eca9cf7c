"""The names of the metrics that an evaluation returns, as far as they are known before it."""

from collections.abc import Callable, Iterable

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

AP = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def _of_classes(metrics: Iterable[str], classes: Iterable[str]) -> list[str]:
    return [f"{metric}-{name}" for metric in metrics for name in classes]


def _sem_seg(cfg: CfgNode, metadata: Metadata) -> dict[str, list[str]]:
    single = ("IoU", "BoundaryIoU", "min(IoU, B-Iou)", "ACC")
    classes = _of_classes(single, metadata.stuff_classes)
    return {"sem_seg": ["mIoU", "fwIoU", "mACC", "pACC", *classes]}


def _cityscapes(cfg: CfgNode, metadata: Metadata) -> dict[str, list[str]]:
    classes = _of_classes(("IoU", "iIoU"), metadata.stuff_classes)
    return {"sem_seg": ["IoU", "iIoU", "IoU_sup", "iIoU_sup", *classes]}


def _instances(cfg: CfgNode, metadata: Metadata) -> dict[str, list[str]]:
    names = {"bbox": [*AP]}
    if cfg.MODEL.MASK_ON:
        names["segm"] = [*AP]
    classes = metadata.get("thing_classes") or ()
    if len(classes) == 1:
        classes = ()  # Detectron2 leaves out the AP of a single class
    for metrics in names.values():
        metrics += _of_classes(("AP",), classes)
    if cfg.MODEL.KEYPOINT_ON:
        names["keypoints"] = [metric for metric in AP if metric != "APs"]
    return names


def _panoptic(cfg: CfgNode, metadata: Metadata) -> dict[str, list[str]]:
    quality = [f"{metric}{of}" for of in ("", "_th", "_st") for metric in ("PQ", "SQ", "RQ")]
    return {**_sem_seg(cfg, metadata), **_instances(cfg, metadata), "panoptic_seg": quality}


def _lvis(cfg: CfgNode, metadata: Metadata) -> dict[str, list[str]]:
    tasks = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    return {task: [*AP, "APr", "APc", "APf"] for task in tasks}


NAMES: dict[str, Callable[[CfgNode, Metadata], dict[str, list[str]]]] = {
    "classification": lambda cfg, metadata: {"classification": ["top1", "top5"]},
    "sem_seg": _sem_seg,
    "cityscapes_sem_seg": _cityscapes,
    "coco": _instances,
    "coco_panoptic_seg": _panoptic,
    "cityscapes_instance": lambda cfg, metadata: {"segm": ["AP", "AP50"]},
    "lvis": _lvis,
}


def metric_names(cfg: CfgNode, dataset: str) -> list[str] | None:
    """The metrics of a dataset's evaluation, as "TASK/METRIC".

    Args:
        cfg: the config of the model.
        dataset: a registered dataset.

    Returns:
        The names, those of the whole before those of single classes; None for an evaluator that is
        not known here. The classes of a dataset in COCO's format are known once it was read.
    """
    metadata = MetadataCatalog.get(dataset)
    build = NAMES.get(metadata.get("evaluator_type"))
    if build is None:
        return None
    tasks = build(cfg, metadata)
    names = [f"{task}/{metric}" for task, metrics in tasks.items() for metric in metrics]
    return sorted(names, key=lambda name: "-" in name)
