"""What a resumed run takes from its checkpoint, and what from its config.

The config wins: learning rate, momentum, weight decay and the schedule are the config's. The
checkpoint gives the weights, the position (the iteration) and the optimizer's moments.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

logger = logging.getLogger(__name__)


def solver_values(cfg: CfgNode) -> dict[str, Any]:
    """`SEED` and every key of `SOLVER`, by its full name."""
    return {"SEED": cfg.SEED, **dict(_flat("SOLVER", cfg.SOLVER))}


def _flat(prefix: str, node: CfgNode) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}.{key}"
        if isinstance(value, CfgNode):
            yield from _flat(name, value)
        else:
            yield name, value


def log_changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Log, one line each, the keys whose values differ from those of the resumed run.

    Args:
        before: :func:`solver_values` of the run that wrote the checkpoint; None where it does not
            tell.
        now: those of this run.
    """
    if before is None:
        logger.info("The checkpoint does not tell its SOLVER keys: those of the config are used")
        return
    for key, value in now.items():
        if key in before and before[key] != value:
            logger.warning("%s: %s -> %s (the config's value is used)", key, before[key], value)


def parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of an optimizer's parameters, in the order of its state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def resumed_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Sequence[str],
    saved: dict,
    saved_names: Sequence[str] | None,
) -> dict:
    """Combine the moments of a checkpoint with the groups and values of a new optimizer.

    Args:
        optimizer: the optimizer that the config describes.
        names: the names of its parameters.
        saved: the state in the checkpoint.
        saved_names: the names of the parameters there; None in a checkpoint without them, whose
            parameters have to be the same in the same order.

    Returns:
        A state for `optimizer.load_state_dict`. Parameters that the checkpoint did not train start
        with empty moments.

    Raises:
        RuntimeError: without names, the groups differ; or a moment has not its parameter's shape.
    """
    fresh = optimizer.state_dict()
    if saved_names is None:
        sizes, saved_sizes = (
            [len(group["params"]) for group in state["param_groups"]] for state in (fresh, saved)
        )
        if sizes != saved_sizes:
            raise RuntimeError(
                f"its optimizer has groups of {saved_sizes} parameters, and this config's {sizes}: "
                "start anew from its weights (MODEL.WEIGHTS, another OUTPUT_DIR)"
            )
        saved_names = names
    places = {name: index for index, name in enumerate(saved_names)}
    moments = {
        index: saved["state"][places[name]]
        for index, name in enumerate(names)
        if places.get(name) in saved["state"]
    }
    _check_shapes(optimizer, names, moments)
    new = [name for name in names if name not in places]
    if new:
        logger.warning("%d parameters were not trained before, the first %s", len(new), new[0])
    return {"state": moments, "param_groups": fresh["param_groups"]}


def _check_shapes(
    optimizer: torch.optim.Optimizer, names: Sequence[str], moments: Mapping[int, dict]
) -> None:
    """Refuse moments of other parameters: the first step would fail, or be wrong."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, state in moments.items():
        shape = tuple(parameters[index].shape)
        for key, value in state.items():
            # Adam's number of steps is a tensor of no dimension.
            if isinstance(value, torch.Tensor) and value.dim() and tuple(value.shape) != shape:
                raise RuntimeError(
                    f"its optimizer has a {key} of shape {tuple(value.shape)} for {names[index]}, "
                    f"which has the shape {shape}"
                )


def move_schedule(scheduler: torch.optim.lr_scheduler.LRScheduler, iteration: int) -> None:
    """Let a new schedule stand at an iteration, and set the optimizer's learning rates to it.

    This holds for schedules that compute a rate from the iteration alone, as Detectron2's and
    DeepLab's do.
    """
    scheduler.load_state_dict({"last_epoch": iteration, "_step_count": iteration + 1})
    rates = scheduler.get_lr()
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler.load_state_dict({"_last_lr": rates})
