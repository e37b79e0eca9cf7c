"""Models by the names of their configs, with the functions of `detectron2.model_zoo`."""

import difflib
import logging
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

import srnet.data  # noqa: F401  registers the datasets that configs name
from srnet.checkpoint import Checkpointer
from srnet.config import get_srnet_cfg
from srnet.engine import Trainer

# Config name without ".yaml" -> URL of the weights that training it gave.
CHECKPOINT_URLS: dict[str, str] = {}


def get_config_file(config_path: str) -> str:
    """Find a config of this project.

    Args:
        config_path: its name relative to `configs/`, for instance
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml".

    Returns:
        The path of the file.

    Raises:
        RuntimeError: there is no such config; the message lists the nearest names.
    """
    folder = _configs()
    file = folder / config_path
    if file.is_file() and file.suffix == ".yaml":
        return str(file)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.yaml"))
    nearest = difflib.get_close_matches(config_path, names, n=5, cutoff=0.3)
    raise RuntimeError(
        f"{config_path} is not a config of srnet.model_zoo; the nearest names are "
        f"{', '.join(nearest or names)}"
    )


def get_checkpoint_url(config_path: str) -> str:
    """The URL of the weights that training a config gave.

    Raises:
        RuntimeError: there is no such config, or no weights of it are published.
    """
    get_config_file(config_path)
    url = CHECKPOINT_URLS.get(config_path.removesuffix(".yaml"))
    if url is None:
        weights = _load(config_path).MODEL.WEIGHTS
        start = f"starts from {weights}" if weights else "starts from random weights"
        raise RuntimeError(
            f"no trained weights are published for {config_path}; with trained=False its model "
            f"{start}, and train_net.py trains it"
        )
    return url


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """Read a config of this project, with all its keys.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: set `MODEL.WEIGHTS` to the published weights instead of those that training
            starts from.

    Raises:
        RuntimeError: as :func:`get_config_file`, and :func:`get_checkpoint_url` where `trained`.
    """
    cfg = _load(config_path)
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a model of this project and load its weights.

    As in Detectron2, where `trained` is False the weights that training starts from are loaded; a
    URL is fetched once and kept. Where these cannot be fetched, the model has random weights and a
    warning says so. With `trained`, that is an error.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: as in :func:`get_config`.
        device: replaces `MODEL.DEVICE`, which becomes "cpu" where there is no GPU.

    Returns:
        The model, in training mode.

    Raises:
        RuntimeError: as :func:`get_config`, or weights that cannot be loaded.
    """
    cfg = get_config(config_path, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if device is not None:
        cfg.MODEL.DEVICE = device
    model = Trainer.build_model(cfg)
    try:
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    except RuntimeError as error:
        if trained or not isinstance(error.__cause__, OSError) or "://" not in cfg.MODEL.WEIGHTS:
            raise
        logging.getLogger(__name__).warning("%s The model has random weights.", error)
    return model


def _load(config_path: str) -> CfgNode:
    cfg = get_srnet_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    return cfg


def _configs() -> Path:
    """The folder of configs: in the package, or in the checkout that was not installed."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.exists() else Path(__file__).resolve().parents[4] / "configs"
