"""Reading a config: from the model zoo or from a file, with its overrides, checked."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import detectron2.config
import torch
from detectron2.config import CfgNode

from srnet.config import add_srnet_config

# Importing them registers the datasets and models that configs name.
from srnet.data import (
    check_against_datasets,
    check_class_folders,
    follow_custom_datasets,
    register_custom_datasets,
    register_image_folders,
)
from srnet.modeling.context import CONTEXT_NAMES
from srnet.ranges import RANGES, check_keys, check_ranges

from .families import check_families
from .merging import merge_content, merge_options
from .names import CONFIGS, find_config
from .published import resolve_weights
from .timm_data import follow_timm
from .yaml_files import read_with_bases

# What the values of keys may be; the names of context modules are only known where they are made.
ALL_RANGES = {
    **RANGES,
    "MODEL.CONTEXT.NAME": CONTEXT_NAMES,
    "MODEL.CONTEXT.GATE": CONTEXT_NAMES,
}


def get_cfg(name_or_path: str | os.PathLike = "", opts: Sequence = ()) -> CfgNode:
    """Read a config of this project.

    Files are data: no YAML tag in them runs code, and `_BASE_` names local files only. Where there
    is no GPU, `MODEL.DEVICE: cuda`, Detectron2's default, becomes `cpu`. Where neither the file nor
    `opts` sets `OUTPUT_DIR`, it becomes ``./output/NAME`` with the name of the config. In
    `OUTPUT_DIR` and `MODEL.WEIGHTS` a ``~`` at the start is the home folder, and ``$NAME`` or
    ``${NAME}`` an environment variable. ``MODEL.WEIGHTS srnet://NAME`` becomes the published
    weights of the config NAME. Mean, std and colour order of a timm backbone are timm's where the
    config leaves them open (:func:`.follow_timm`).

    The datasets of `DATASETS.CUSTOM` are registered. The model's numbers of classes follow them
    unless `opts`, or a file that is not of the model zoo, sets them.

    Args:
        name_or_path: a path, or a name of the model zoo such as
            "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"; empty for the defaults alone.
        opts: alternating keys and values that override the file.

    Returns:
        The config, not frozen.

    Raises:
        FileNotFoundError: there is no such file and no such name; the message lists the nearest.
            Or no weights are published under the name in `MODEL.WEIGHTS`.
        IsADirectoryError: it is a folder.
        KeyError: a key that no config has; the message lists the nearest.
        ValueError: the file is not a config, a value has the wrong type, values are out of their
            ranges (:mod:`srnet.ranges`; the message has a line for each of them), or the config
            contradicts the datasets it names.
    """
    cfg = detectron2.config.get_cfg()
    add_srnet_config(cfg)
    default = cfg.OUTPUT_DIR
    cfg.OUTPUT_DIR = ""
    path = find_config(name_or_path) if name_or_path else None
    steps: list[list[str]] = []  # the keys of each file and of the options
    given: set[str] = set()  # those that the user has set, not a file of the zoo
    for file, content in read_with_bases(path) if path is not None else ():
        steps.append(merge_content(cfg, content, str(file)))
        if not file.resolve().is_relative_to(CONFIGS.resolve()):
            given |= set(steps[-1])
    steps.append(merge_options(cfg, opts))
    given |= set(steps[-1])
    follow_timm(cfg, steps)
    if not cfg.OUTPUT_DIR:
        cfg.OUTPUT_DIR = output_dir(path) if path is not None else default
    cfg.OUTPUT_DIR = expand("OUTPUT_DIR", cfg.OUTPUT_DIR)
    cfg.MODEL.WEIGHTS = resolve_weights(expand("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS))
    check_version(cfg)
    choose_device(cfg)
    register_image_folders(cfg)
    register_custom_datasets(cfg)
    check_ranges(cfg, ALL_RANGES)  # before what takes the values for right ones
    follow_custom_datasets(cfg, given)
    check_families(cfg, path)
    check_against_datasets(cfg)
    check_class_folders(cfg)
    return cfg


def expand(key: str, path: str) -> str:
    """Put in the home folder and environment variables, as a shell does.

    Raises:
        ValueError: a variable is not set.
    """
    if "://" in path:
        return path
    expanded = os.path.expanduser(os.path.expandvars(path))
    unset = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unset:
        raise ValueError(f"{key} is {path!r}, and the environment variable {unset[0]} is not set")
    return expanded


def check_version(cfg: CfgNode) -> None:
    """Refuse configs of Detectron2's old form, whose keys meant something else.

    Raises:
        ValueError: `VERSION` is not that of the installed Detectron2.
    """
    current = detectron2.config.get_cfg().VERSION
    if current != cfg.VERSION:
        raise ValueError(f"VERSION is {cfg.VERSION}, and only configs of {current} are read")


def choose_device(cfg: CfgNode) -> None:
    """Check `MODEL.DEVICE`, and put the CPU there where there is no GPU.

    Raises:
        ValueError: it is none of cpu, cuda and cuda:N, or this machine has no GPU of that number.
    """
    check_keys(cfg, "MODEL.DEVICE")
    device = cfg.MODEL.DEVICE
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        logging.getLogger(__name__).warning("no GPU is available: MODEL.DEVICE becomes cpu")
        cfg.MODEL.DEVICE = "cpu"
        return
    count = torch.cuda.device_count()
    if ":" in device and int(device.split(":")[1]) >= count:
        raise ValueError(f"MODEL.DEVICE is {device!r}, and this machine has cuda:0 to {count - 1}")


def output_dir(path: Path) -> str:
    """The `OUTPUT_DIR` of a config that sets none.

    That is ``./output/STEM``, for a config of the zoo with the first word of its folder before it:
    ``./output/camvid_dfnet_v1_SR``.
    """
    stem = path.stem
    if path.resolve().is_relative_to(CONFIGS.resolve()):
        stem = f"{path.parent.name.replace('_', '-').split('-')[0].lower()}_{stem}"
    return f"./output/{stem}"
