"""SRNet: Squeeze Reasoning (Li et al., IEEE TIP 2021) as a Detectron2 project.

The whole surface, loaded on first use:

* ``srnet.get_cfg(name_or_path, opts)`` reads a config of the model zoo or of a file.
* ``srnet.build_model(cfg)`` builds its model.
* ``srnet.Predictor(config)`` predicts single pictures.
* ``srnet.add_srnet_config(cfg)`` adds this project's keys to a Detectron2 config. With it, tools
  written for Detectron2 run this project's configs.
* ``srnet.model_zoo`` finds configs and weights by name, as `detectron2.model_zoo` does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import model_zoo
    from .model_zoo import add_srnet_config, get_cfg
    from .modeling import build_model
    from .prediction import Predictor

__version__ = "0.1.0"

__all__ = ["Predictor", "add_srnet_config", "build_model", "get_cfg", "model_zoo"]

# What is imported when an attribute is first used. What reads configs also registers the models and
# datasets that they name.
_PLACES = {
    "Predictor": "srnet.prediction",
    "add_srnet_config": "srnet.model_zoo",
    "build_model": "srnet.modeling",
    "get_cfg": "srnet.model_zoo",
}


def __getattr__(name: str) -> Any:
    if name == "model_zoo":
        return importlib.import_module("srnet.model_zoo")
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'srnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
