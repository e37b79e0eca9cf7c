"""Models by the names of their configs, with the functions of `detectron2.model_zoo`."""

import logging

from detectron2.config import CfgNode
from detectron2.utils.file_io import Detectron2Handler
from torch import nn

from srnet.checkpoint import Checkpointer
from srnet.modeling import build_model

from .config import choose_device, get_cfg
from .names import CONFIGS, config_names, nearest_names
from .published import checkpoint_url


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
    """Where the weights lie that training a config gave.

    Returns:
        A path or a URL with ``#sha256=HASH`` behind it, which loading checks.

    Raises:
        RuntimeError: there is no such config, or no weights of it are published.
    """
    file = get_config_file(config_path)
    url = checkpoint_url(config_path)
    if url is None:
        weights = get_cfg(file).MODEL.WEIGHTS
        start = f"starts from {_with_url(weights)}" if weights else "starts from random weights"
        raise RuntimeError(
            f"no trained weights are published for {config_path}; with trained=False its model "
            f"{start}, and train_net.py trains it"
        )
    return url


def _with_url(weights: str) -> str:
    """Name weights of Detectron2's own zoo, which the ``*_finetune`` configs stand on, by URL."""
    prefix = Detectron2Handler.PREFIX
    if not weights.startswith(prefix):
        return weights
    return f"{weights} ({Detectron2Handler.S3_DETECTRON2_PREFIX}{weights.removeprefix(prefix)})"


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
