"""Lets Detectron2's main find cityscapesscripts."""

import importlib
import sys
from types import ModuleType

# Since its commit 4823082a (2024-12-19), still in 02b5c4e2 (2026-06-06), Detectron2's loader and
# evaluator of Cityscapes' instances import cityscapesscripts from a place that only Meta has.
ELSEWHERE = "deeplearning.projects.cityscapesApi"
USED = ("helpers.labels", "evaluation.evalInstanceLevelSemanticLabeling")


def provide_cityscapesscripts() -> None:
    """Let the installed cityscapesscripts also be imported from where Detectron2's main looks.

    Raises:
        ModuleNotFoundError: cityscapesscripts is not installed.
    """
    parts = ELSEWHERE.split(".")
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        if name not in sys.modules:
            sys.modules[name] = ModuleType(name)
        if depth:
            setattr(sys.modules[".".join(parts[:depth])], parts[depth], sys.modules[name])
    for module in USED:
        importlib.import_module(f"cityscapesscripts.{module}")
    package = sys.modules["cityscapesscripts"]
    sys.modules[ELSEWHERE].cityscapesscripts = package
    for name in [n for n in sys.modules if n.partition(".")[0] == package.__name__]:
        sys.modules[f"{ELSEWHERE}.{name}"] = sys.modules[name]
