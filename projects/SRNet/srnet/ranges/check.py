"""Checking a config against the table: all findings at once."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from .table import RANGES
from .values import Range


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = cfg
    for name in key.split("."):
        value = value[name]
    return value


def find_problems(cfg: CfgNode, ranges: Mapping[str, Range] = RANGES) -> list[str]:
    """What is wrong with the values of a config: a line each, with key, value and what is allowed.

    Args:
        cfg: the config.
        ranges: the table.
    """
    found = (item.problem(key, value_of(cfg, key), cfg) for key, item in ranges.items())
    return [problem for problem in found if problem]


def check_ranges(cfg: CfgNode, ranges: Mapping[str, Range] = RANGES) -> None:
    """Refuse a config with a wrong value.

    Args:
        cfg: the config.
        ranges: the table.

    Raises:
        ValueError: the message has a line for each wrong value.
    """
    problems = find_problems(cfg, ranges)
    if len(problems) > 1:
        problems.insert(0, f"{len(problems)} values of the config are wrong:")
    if problems:
        raise ValueError("\n".join(problems))


def check_keys(cfg: CfgNode, *keys: str) -> None:
    """Refuse wrong values of some keys, as :func:`check_ranges` does of all.

    What is built from a config that :func:`srnet.get_cfg` did not read checks its own keys so.

    Raises:
        ValueError: as there.
    """
    check_ranges(cfg, {key: RANGES[key] for key in keys})
