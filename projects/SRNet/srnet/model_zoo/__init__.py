"""The configs of this project, and their weights, from anywhere: as `detectron2.model_zoo`."""

from srnet.config import add_srnet_config

from .config import get_cfg
from .model_zoo import (
    default_model,
    get,
    get_checkpoint_url,
    get_config,
    get_config_file,
    published_weights,
)

__all__ = [
    "add_srnet_config",
    "default_model",
    "get",
    "get_cfg",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "published_weights",
]
