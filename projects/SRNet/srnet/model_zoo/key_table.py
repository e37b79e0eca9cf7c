"""The documentation of the config keys, made from the comments of config.py and the ranges."""

import inspect
import re
from typing import Any

import detectron2.config
from detectron2.config import CfgNode

from srnet.config import add_srnet_config
from srnet.ranges.check import value_of

from .config import ALL_RANGES

ABOUT = """# Config keys

`srnet config --keys` prints this page. It is made from `srnet/config.py` (meanings and defaults)
and `srnet/ranges/table.py` (what is allowed). `srnet.get_cfg`, which every command uses, checks all
of it before anything is built, and names every wrong value at once. A key that does not exist and a
value of another type are errors, too.
"""
OTHERS = """## Detectron2's keys

[Detectron2's documentation](https://detectron2.readthedocs.io/en/latest/modules/config.html) has
all of them with their meanings. The values of these are checked:
"""


def read_meanings() -> dict[str, str]:
    """The keys and groups of this project, in the order of config.py, with their meanings.

    The meaning is the comment above the assignment.
    """
    meanings: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(add_srnet_config).splitlines():
        text = line.strip()
        assigned = re.match(r"cfg\.([\w.]+) = ", text)
        if text.startswith("# "):
            comment.append(text[2:])
            continue
        if assigned:
            meanings[assigned[1]] = " ".join(comment)
        comment = []
    return meanings


def describe_keys() -> str:
    """Describe this project's keys, and Detectron2's whose values are checked, in Markdown."""
    cfg = detectron2.config.get_cfg()
    add_srnet_config(cfg)
    meanings = read_meanings()
    groups: dict[str, list[str]] = {}
    for key in meanings:
        group = key if isinstance(value_of(cfg, key), CfgNode) else key.rpartition(".")[0]
        groups.setdefault(group, []).extend([key] * (group != key))
    lines = [ABOUT, "## This project's keys"]
    for group, keys in sorted(groups.items()):
        lines += ["", f"### {group}", ""]
        if meanings.get(group):
            lines += [meanings[group], ""]
        lines += ["| Key | Default | Allowed | Meaning |", "| --- | --- | --- | --- |"]
        for key in keys:
            name = key.rpartition(".")[2]
            lines.append(_row(name, _default(cfg, key), _allowed(cfg, key), meanings[key]))
    lines += ["", OTHERS, "| Key | Default | Allowed |", "| --- | --- | --- |"]
    for key in sorted(set(ALL_RANGES) - set(meanings)):
        lines.append(_row(key, _default(cfg, key), _allowed(cfg, key)))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _default(cfg: CfgNode, key: str) -> str:
    value = value_of(cfg, key)
    if isinstance(value, list | tuple):
        return f"`{type(value)(map(_short, value))}`"
    return f"`{_short(value)!r}`"


def _short(value: Any) -> Any:
    """A floating-point number with six digits; anything else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _allowed(cfg: CfgNode, key: str) -> str:
    """The range of a key in words, or its type where it has none."""
    if key in ALL_RANGES:
        return ALL_RANGES[key].allowed
    return {bool: "True or False", str: "text"}[type(value_of(cfg, key))]
