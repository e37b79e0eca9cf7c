"""Putting keys and values into a config, with errors that say which key, value and type."""

import difflib
import reprlib
from collections.abc import Iterator, Sequence

from detectron2.config import CfgNode

brief = reprlib.Repr()
brief.maxstring = brief.maxother = 80


def merge_content(cfg: CfgNode, content: dict, source: str) -> list[str]:
    """Merge what a file holds into a config.

    Args:
        cfg: the config, changed in place.
        content: nested keys and values.
        source: where they come from, for messages.

    Returns:
        The dotted keys that the file sets.

    Raises:
        KeyError: a key that the config does not have; the message names the nearest.
        ValueError: a value of another type than the config has for its key.
    """
    keys = []
    for key, value in _leaves(content, cfg, source, ""):
        _set(cfg, key, value, source)
        keys.append(key)
    return keys


def merge_options(cfg: CfgNode, opts: Sequence) -> list[str]:
    """Merge alternating keys and values, as on a command line, into a config.

    Returns:
        The keys that were set.

    Raises:
        KeyError: as :func:`merge_content`.
        ValueError: likewise, and for a key without a value.
    """
    if len(opts) % 2:
        raise ValueError(
            f"options are pairs of KEY VALUE, and these are {len(opts)} words: {opts[-1]!r} has no "
            "value"
        )
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        node = cfg
        for name in str(key).split("."):
            if not isinstance(node, CfgNode) or name not in node:
                raise _unknown(cfg, str(key), "the options")
            node = node[name]
        if isinstance(node, CfgNode):
            raise ValueError(f"the options: {key} is a group of keys and takes no value")
        _set(cfg, str(key), value, "the options")
    return [str(key) for key in opts[::2]]


def _leaves(content: dict, node: CfgNode, source: str, prefix: str) -> Iterator[tuple[str, object]]:
    """Yield dotted keys and values; `node` tells which keys are groups."""
    for name, value in content.items():
        key = f"{prefix}{name}"
        if name not in node:
            raise _unknown(node, key, source, prefix)
        if not isinstance(node[name], CfgNode):
            yield key, value
        elif isinstance(value, dict):
            yield from _leaves(value, node[name], source, f"{key}.")
        else:
            raise ValueError(
                f"{source}: {key} is a group of keys, and here it is {brief.repr(value)}"
            )


def _set(cfg: CfgNode, key: str, value: object, source: str) -> None:
    """Set one existing key. As Detectron2 does, text that is a Python literal becomes its value."""
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node[part]
    before = node[name]
    if value != value:
        raise ValueError(f"{source}: {key} is NaN, and it must be a number")
    try:
        node.merge_from_list([name, value])
        if node[name] is not None or before is None:
            return
    except (AssertionError, ValueError, RecursionError, MemoryError):
        pass  # of another type, or brackets without end
    node[name] = before
    given = f"{brief.repr(value)} ({type(value).__name__})"
    raise ValueError(
        f"{source}: {key} is {given}, and it must be of the type {type(before).__name__}, as "
        f"{brief.repr(before)} is"
    )


def _unknown(node: CfgNode, key: str, source: str, prefix: str = "") -> KeyError:
    """The error for a key that `node`, whose own key is `prefix`, does not have."""
    known = [f"{prefix}{k}" for k in _all_keys(node)]
    nearest = difflib.get_close_matches(key.upper(), known, n=3) or [f"{prefix}{k}" for k in node]
    return KeyError(f"{source}: there is no key {key}; the nearest are {', '.join(nearest)}")


def _all_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """All dotted keys, of groups and of values."""
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, CfgNode):
            yield from _all_keys(value, f"{prefix}{name}.")
