"""From a config file and its overrides to a checked, frozen config."""

import logging

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from srnet.config import get_srnet_cfg
from srnet.data import check_class_folders, register_image_folders
from srnet.data.validate import ROI_ARCHITECTURES


def setup_cfg(config_file: str, opts: list[str] = ()) -> CfgNode:
    """Read a config.

    Where there is no GPU, `MODEL.DEVICE: cuda`, Detectron2's default, becomes `cpu`.

    Args:
        config_file: a path; empty for the defaults alone.
        opts: alternating keys and values that override the file.

    Raises:
        KeyError: a key that no config has.
        ValueError: the config contradicts the datasets it names.
    """
    cfg = get_srnet_cfg()
    if config_file:
        cfg.merge_from_file(config_file)
    cfg.merge_from_list(list(opts))
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("no GPU is available: MODEL.DEVICE becomes cpu")
        cfg.MODEL.DEVICE = "cpu"
    register_image_folders(cfg)
    check_against_datasets(cfg)
    check_class_folders(cfg)
    cfg.freeze()
    return cfg


def check_against_datasets(cfg: CfgNode) -> None:
    """Compare the class counts of a config with those of its datasets.

    Raises:
        ValueError: they differ; the message names the key, the dataset and both values.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    architecture = cfg.MODEL.META_ARCHITECTURE
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type")
        semantic = kind in ("sem_seg", "cityscapes_sem_seg")
        # What is registered without its classes gets them when its annotations are read.
        if architecture in ROI_ARCHITECTURES and not semantic and metadata.get("thing_classes"):
            things = len(metadata.thing_classes)
            _check("MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS.NUM_CLASSES, name, things)
        if semantic or (architecture == "PanopticFPN" and kind == "coco_panoptic_seg"):
            # Of a panoptic dataset in Detectron2's separated form: all things as one class, then
            # the stuff.
            stuff = len(metadata.stuff_classes)
            _check("MODEL.SEM_SEG_HEAD.NUM_CLASSES", head.NUM_CLASSES, name, stuff)
            ignored = metadata.ignore_label
            _check("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", head.IGNORE_VALUE, name, ignored)


def _check(key: str, value: int, dataset: str, wanted: int) -> None:
    if value != wanted:
        raise ValueError(f"{key} is {value}, and the dataset {dataset} needs {wanted}")
