"""Models by the names of their configs, with the functions of `detectron2.model_zoo`."""

import logging

from detectron2.config import CfgNode
from torch import nn

from srnet.checkpoint import Checkpointer
from srnet.modeling import build_model

from .config import choose_device, get_cfg
from .names import CONFIGS, config_names, nearest_names

# Config name without ".yaml" -> URL of the weights that training it gave.
CHECKPOINT_URLS: dict[str, str] = {}
# The config, one with published weights, that is taken where a user names none; "" for none.
DEFAULT_MODEL = ""


def default_model() -> str:
    """The config that is taken where a user names none.

    Raises:
        RuntimeError: there is none.
    """
    if not DEFAULT_MODEL:
        raise RuntimeError(
            "no model is given, and none is published that could be taken instead: give a config "
            "and its trained weights (srnet predict: --config-file and --weights)"
        )
    return DEFAULT_MODEL


def published_weights(config_path: str) -> str:
    """The URL of the published weights of a config; "" where there are none."""
    return CHECKPOINT_URLS.get(config_path.removesuffix(".yaml"), "")


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
    if config_path in config_names():
        return str(CONFIGS / config_path)
    raise RuntimeError(
        f"{config_path} is not a config of srnet.model_zoo; the nearest names are "
        f"{', '.join(nearest_names(config_path))}"
    )


def get_checkpoint_url(config_path: str) -> str:
    """The URL of the weights that training a config gave.

    Raises:
        RuntimeError: there is no such config, or no weights of it are published.
    """
    file = get_config_file(config_path)
    url = CHECKPOINT_URLS.get(config_path.removesuffix(".yaml"))
    if url is None:
        weights = get_cfg(file).MODEL.WEIGHTS
        start = f"starts from {weights}" if weights else "starts from random weights"
        raise RuntimeError(
            f"no trained weights are published for {config_path}; with trained=False its model "
            f"{start}, and train_net.py trains it"
        )
    return url


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """Read a config of this project, as `srnet.get_cfg` reads it.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: set `MODEL.WEIGHTS` to the published weights instead of those that training
            starts from.

    Raises:
        RuntimeError: as :func:`get_config_file`, and :func:`get_checkpoint_url` where `trained`.
    """
    cfg = get_cfg(get_config_file(config_path))
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
        device: replaces `MODEL.DEVICE`: "cpu", "cuda" or "cuda:N". Without a GPU it is "cpu".

    Returns:
        The model, in training mode.

    Raises:
        RuntimeError: as :func:`get_config`, or weights that cannot be loaded.
    """
    cfg = get_config(config_path, trained)
    if device is not None:
        cfg.MODEL.DEVICE = device
        choose_device(cfg)
    model = build_model(cfg)
    try:
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    except RuntimeError as error:
        if trained or not isinstance(error.__cause__, OSError) or "://" not in cfg.MODEL.WEIGHTS:
            raise
        logging.getLogger(__name__).warning("%s The model has random weights.", error)
    return model
