"""How the weights of a checkpoint fit a model: what was loaded, what is new, what is left over."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from fvcore.common.checkpoint import _filter_reused_missing_keys
from tabulate import tabulate
from torch import nn

from .file_kinds import CheckpointError

# Counters of batch norms, and what older Detectron2s saved and computed from the config anyway.
_IGNORED = re.compile(r"(.*\.)?(num_batches_tracked|pixel_mean|pixel_std|cell_anchors(\.\d+)?)")
_OVERRIDE = "set MODEL.WEIGHTS_STRICT False to go on with random weights in their place"


@dataclass(frozen=True)
class Fit:
    """The names of a model's weights, and what a checkpoint had for them.

    Attributes:
        loaded: what the checkpoint had.
        new: what it did not have, or in another shape: these keep their start.
        shapes: of those that have another shape, that in the checkpoint and that in the model.
        left_over: what the checkpoint has and the model does not.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    left_over: tuple[str, ...]

    def table(self) -> str:
        """A table with a row for each part of the model, and the first name that did not fit."""
        groups = (self.loaded, self.new, self.left_over)
        counts = [Counter(map(part_of, names)) for names in groups]
        rows = []
        for part in dict.fromkeys(map(part_of, (*self.loaded, *self.new, *self.left_over))):
            odd = next((n for n in (*self.new, *self.left_over) if part_of(n) == part), "")
            rows.append([part, *(count[part] for count in counts), self._with_shape(odd)])
        rows.append(["all", *map(len, groups), ""])
        headers = ["part", "loaded", "new (random)", "left over", "first that did not fit"]
        return tabulate(rows, headers, tablefmt="pipe")

    def _with_shape(self, name: str) -> str:
        if name not in self.shapes:
            return name
        theirs, ours = self.shapes[name]
        return f"{name}: {theirs} in the file, {ours} in the model"

    def problems(self, allowed: Iterable[str] = ()) -> str:
        """Say what keeps the model from being the one that was saved; "" where nothing does.

        Left over parameters of a backbone and of context modules count, as a network without them
        is another one; those of other heads do not.

        Args:
            allowed: names that may be new.
        """
        allowed = set(allowed)
        missing = [n for n in self.new if n not in self.shapes and n not in allowed]
        left = [n for n in self.left_over if n.startswith("backbone.") or ".context." in n]
        shapes = [self._with_shape(n) for n in self.shapes]
        found = []
        for names, what in (
            (missing, "of the model's parameters are missing in it"),
            (shapes, "have another shape"),
            (left, "in it have no place in the model"),
        ):
            if names:
                found.append(f"{len(names)} {what}, as {names[0]}")
        return "; ".join(found)

    def check_complete(self, path: str, allowed: Iterable[str] = ()) -> None:
        """Refuse weights that do not make the whole model.

        Raises:
            CheckpointError: what is missing, of another shape, or left over.
        """
        self.check_any(path)
        problems = self.problems(allowed)
        if problems:
            raise CheckpointError(
                f"{path} is not of the model that the config describes: {problems}. Use the config "
                f"it was trained with, or {_OVERRIDE}"
            )

    def check_any(self, path: str) -> None:
        """Refuse weights none of which is the model's.

        Raises:
            CheckpointError: nothing was loaded.
        """
        if not self.loaded:
            theirs = next(iter((*self.left_over, *self.shapes)), "missing")
            raise CheckpointError(
                f"{path} is another model's: none of the {len(self.new)} parameters of the model "
                f"is in it; the first in it is {theirs}, the model's first is {self.new[0]}"
            )


def fit_of(model: nn.Module, missing: Iterable, unexpected: Iterable, shapes: Iterable) -> Fit:
    """Summarise what was loaded into a model.

    Args:
        model: the model.
        missing: names that were not in the checkpoint.
        unexpected: names that are not in the model.
        shapes: triples of a name, its shape in the checkpoint and its shape in the model.
    """
    differing = {name: (tuple(theirs), tuple(ours)) for name, theirs, ours in shapes}
    new = set(_filter_reused_missing_keys(model, list(missing))) | set(differing)
    names = [name for name in model.state_dict() if not _IGNORED.fullmatch(name)]
    return Fit(
        loaded=tuple(name for name in names if name not in new),
        new=tuple(name for name in names if name in new),
        shapes={name: s for name, s in differing.items() if not _IGNORED.fullmatch(name)},
        left_over=tuple(sorted(n for n in unexpected if not _IGNORED.fullmatch(n))),
    )


def part_of(name: str) -> str:
    """The part of a model that a parameter is in: "backbone.res2", "sem_seg_head"."""
    names = name.split(".")[:-1]
    depth = {"backbone": 2, "roi_heads": 2}.get(names[0] if names else "", 1)
    if names[1:2] == ["bottom_up"]:
        depth = 3
    return ".".join(names[:depth]) or "model"


def identities(model: nn.Module, new: Iterable[str]) -> list[str]:
    """Those of the new parameters that change nothing yet.

    They belong to context modules that are new as a whole and return what they are given: the start
    of SR and of most of its rivals. With them a checkpoint of Detectron2 predicts what it did.

    Args:
        model: the model, after loading.
        new: names that were not in the checkpoint.
    """
    new = set(new)
    modules: dict[str, list[str]] = {}
    for name in model.state_dict():
        place, context, _ = name.partition(".context.")
        if context and not _IGNORED.fullmatch(name):
            modules.setdefault(f"{place}.context", []).append(name)
    return [
        name
        for place, names in modules.items()
        if new.issuperset(names) and _is_identity(model, place)
        for name in names
    ]


@torch.no_grad()
def _is_identity(model: nn.Module, place: str) -> bool:
    """Whether a module returns what it is given, tried on a small random map."""
    try:
        module = model.get_submodule(place)
    except AttributeError:
        return False
    conv = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if conv is None:
        return False
    x = torch.rand(1, conv.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    x = x.to(conv.weight)
    training = module.training
    try:
        return torch.equal(module.eval()(x), x)
    except (RuntimeError, ValueError):  # not a module that maps a map to its like
        return False
    finally:
        module.train(training)


def check_types(own: Mapping, loaded: Mapping, path: str) -> None:
    """Refuse weights of whole or complex numbers, which loading would round without a word.

    Args:
        own: the model's weights by name.
        loaded: those of the file, tensors or arrays.
        path: the file.

    Raises:
        CheckpointError: the model has floating-point numbers there; the message names the first.
    """
    for name, value in loaded.items():
        is_real = str(value.dtype).removeprefix("torch.").startswith(("float", "bfloat"))
        if name in own and own[name].is_floating_point() and not is_real:
            raise CheckpointError(
                f"{path} has {name} of the type {value.dtype}, and the model has floating-point "
                "numbers there: save the weights before they are quantized or converted"
            )


def check_finite(model: nn.Module, path: str) -> None:
    """Refuse the weights of a training that diverged.

    Raises:
        CheckpointError: a weight is NaN or infinite; the message names the first.
    """
    name = not_finite(model.state_dict())
    if name:
        raise CheckpointError(
            f"{path} is of a training that diverged: {name} has values that are NaN or infinite"
        )


def not_finite(state: Mapping) -> str | None:
    """The first parameter or statistic that is NaN or infinite; None where all are finite."""
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
            return name
    return None
