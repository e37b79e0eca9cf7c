"""Which evaluator a dataset gets: one table from `evaluator_type` to builders."""

import contextlib
import io
import os
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
)

from srnet.data.validate import read_coco
from srnet.extras import require_extra

from .cityscapes_instances import CityscapesInstances
from .classification import ClassificationEvaluator
from .missing import MissingImages
from .panoptic import PanopticEvaluator
from .semantic import CityscapesEvaluator, SemanticEvaluator


def _sem_seg(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    return SemanticEvaluator(dataset_name, output_folder, cfg.TEST.SEM_SEG_PREDICTIONS)


def _cityscapes(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    return CityscapesEvaluator(dataset_name, output_folder, cfg.DATALOADER.SKIP_BAD_IMAGES)


def _instances(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    # Without them Detectron2 takes the tasks from the predictions, so a model that finds nothing
    # would have no mask AP at all.
    tasks = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    json_file = MetadataCatalog.get(dataset_name).get("json_file")
    # pycocotools fails, after all inference, on annotations that lack what is filled in here.
    content = json_file and read_coco(json_file, masks=cfg.MODEL.MASK_ON, labelled=False)
    evaluator = COCOEvaluator(
        dataset_name,
        tasks=tuple(task for task, on in tasks.items() if on),
        output_dir=output_folder,
        kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
    )
    if content:
        # pycocotools takes a match with the annotation 0 for none.
        for number, annotation in enumerate(content.get("annotations", ()), start=1):
            annotation["id"] = number
        evaluator._coco_api.dataset = content
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator._coco_api.createIndex()
    return evaluator


def _panoptic(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    return PanopticEvaluator(dataset_name, output_folder, cfg.DATALOADER.SKIP_BAD_IMAGES)


def _lvis(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    return LVISEvaluator(dataset_name, output_dir=output_folder)


def _cityscapes_instances(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    return CityscapesInstances(dataset_name, cfg.DATALOADER.SKIP_BAD_IMAGES)


def _classification(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    return ClassificationEvaluator(dataset_name, len(DatasetCatalog.get(dataset_name)))


EVALUATORS: dict[str, tuple[Callable[[CfgNode, str, str], DatasetEvaluator], ...]] = {
    "classification": (_classification,),
    "sem_seg": (_sem_seg,),
    "cityscapes_sem_seg": (_cityscapes,),
    "coco": (_instances,),
    "coco_panoptic_seg": (_sem_seg, _instances, _panoptic),
    "cityscapes_instance": (_cityscapes_instances,),
    "lvis": (_lvis,),
}
# What an evaluator imports only after the inference.
REQUIRED = {
    "cityscapes_sem_seg": "cityscapesscripts",
    "cityscapes_instance": "cityscapesscripts",
    "coco_panoptic_seg": "panopticapi",
}


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Build the evaluator of a dataset, or a group of them.

    With `DATALOADER.SKIP_BAD_IMAGES` the images that were not predicted are counted, too.

    Args:
        cfg: the config of the model.
        dataset_name: a registered dataset.
        output_folder: where predictions and metrics are written; `OUTPUT_DIR/inference` by default.

    Raises:
        ModuleNotFoundError: a package of the extra `eval` is missing; the message names it.
        ValueError: the dataset's `evaluator_type` has no evaluator here.
    """
    evaluator_type = MetadataCatalog.get(dataset_name).evaluator_type
    if evaluator_type not in EVALUATORS:
        raise ValueError(
            f"the dataset {dataset_name} has evaluator_type {evaluator_type!r}; the known "
            f"ones are {', '.join(EVALUATORS)}"
        )
    if evaluator_type in REQUIRED:
        require_extra(REQUIRED[evaluator_type], f"evaluating {dataset_name}")
    folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
    evaluators = [build(cfg, dataset_name, folder) for build in EVALUATORS[evaluator_type]]
    if cfg.DATALOADER.SKIP_BAD_IMAGES and evaluator_type != "classification":  # which counts itself
        evaluators.insert(0, MissingImages(dataset_name))
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)
