"""Reading a config: from the model zoo or from a file, with its overrides, checked."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import detectron2.config
import torch
from detectron2.config import CfgNode

# Registers the models and datasets that configs name.
import srnet.modeling  # noqa: F401
from srnet.config import add_srnet_config
from srnet.data import check_against_datasets, check_class_folders, register_image_folders

from .names import CONFIGS, find_config


def get_cfg(name_or_path: str | os.PathLike = "", opts: Sequence = ()) -> CfgNode:
    """Read a config of this project.

    Where there is no GPU, `MODEL.DEVICE: cuda`, Detectron2's default, becomes `cpu`. Where neither
    the file nor `opts` sets `OUTPUT_DIR`, it becomes ``./output/NAME`` with the name of the config.

    Args:
        name_or_path: a path, or a name of the model zoo such as
            "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"; empty for the defaults alone.
        opts: alternating keys and values that override the file.

    Returns:
        The config, not frozen.

    Raises:
        FileNotFoundError: there is no such file and no such name; the message lists the nearest.
        KeyError: a key that no config has.
        ValueError: the config contradicts the datasets it names.
    """
    cfg = detectron2.config.get_cfg()
    add_srnet_config(cfg)
    default = cfg.OUTPUT_DIR
    cfg.OUTPUT_DIR = ""
    path = find_config(name_or_path) if name_or_path else None
    if path is not None:
        cfg.merge_from_file(str(path), allow_unsafe=False)
    cfg.merge_from_list(list(opts))
    if not cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = output_dir(path) if path is not None else default
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("no GPU is available: MODEL.DEVICE becomes cpu")
        cfg.MODEL.DEVICE = "cpu"
    register_image_folders(cfg)
    check_against_datasets(cfg)
    check_class_folders(cfg)
    return cfg


def output_dir(path: Path) -> str:
    """The `OUTPUT_DIR` of a config that sets none.

    That is ``./output/STEM``, for a config of the zoo with the first word of its folder before it:
    ``./output/camvid_dfnet_v1_SR``.
    """
    stem = path.stem
    if path.resolve().is_relative_to(CONFIGS.resolve()):
        stem = f"{path.parent.name.replace('_', '-').split('-')[0].lower()}_{stem}"
    return f"./output/{stem}"
