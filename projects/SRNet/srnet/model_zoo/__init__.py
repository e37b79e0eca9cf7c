"""The configs of this project, and their weights, from anywhere: as `detectron2.model_zoo`."""

from srnet.config import add_srnet_config

from .config import get_cfg
from .model_zoo import get, get_checkpoint_url, get_config, get_config_file
from .published import default_model

__all__ = [
    "add_srnet_config",
    "default_model",
    "get",
    "get_cfg",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
]
