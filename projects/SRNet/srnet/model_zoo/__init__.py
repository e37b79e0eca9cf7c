"""The configs of this project, and their weights, from anywhere: as `detectron2.model_zoo`."""

from .model_zoo import get, get_checkpoint_url, get_config, get_config_file

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]
