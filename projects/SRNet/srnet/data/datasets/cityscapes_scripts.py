"""A work-around: lets Detectron2's main find cityscapesscripts."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Since its commit 4823082a (2024-12-19), still in 02b5c4e2 (2026-06-06), Detectron2's loader and
# evaluator of Cityscapes' instances import cityscapesscripts from a place that only Meta has.
ELSEWHERE = "deeplearning.projects.cityscapesApi"


class _Elsewhere(MetaPathFinder, Loader):
    """Finds cityscapesscripts at that place too."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the place and what cityscapesscripts has there."""
        if f"{ELSEWHERE}.".startswith(f"{name}."):
            return ModuleSpec(name, self, is_package=True)
        if name.startswith(f"{ELSEWHERE}.cityscapesscripts"):
            return ModuleSpec(name, self)
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the installed module in the place of the one that was just made."""
        name = module.__name__.removeprefix(f"{ELSEWHERE}.")
        if name != module.__name__:
            sys.modules[module.__name__] = importlib.import_module(name)


def provide_cityscapesscripts() -> None:
    """Let cityscapesscripts also be imported from where Detectron2's main looks for it.

    What loads or evaluates Cityscapes' instances calls this first, in every process that does it.
    A second call changes nothing.
    """
    if importlib.util.find_spec(ELSEWHERE.partition(".")[0]) is None:
        # First, or the files of cityscapesscripts would be found and run a second time.
        sys.meta_path.insert(0, _Elsewhere())
