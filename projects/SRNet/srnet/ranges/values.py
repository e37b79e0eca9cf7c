"""The kinds of ranges: numbers, choices, lists and registered names."""

import difflib
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from detectron2.config import CfgNode

INFINITE = math.inf
SHORT_LIST = 30  # of registered names that an error message shows whole


def _no_hint(value: Any) -> str:
    return ""


class Range(NamedTuple):
    """What a value may be.

    Attributes:
        allowed: in words, to follow "must be".
        holds: whether a value is allowed, in a config. It takes values of any type.
        noun: what one such value is called in a list of them.
        hint: what to add to the message about a wrong value.
    """

    allowed: str
    holds: Callable[[Any, CfgNode | None], bool]
    noun: str = "value"
    hint: Callable[[Any], str] = _no_hint

    def problem(self, key: str, value: Any, cfg: CfgNode | None = None) -> str | None:
        """What is wrong with the value of a key, in a line; None where nothing is."""
        if self.holds(value, cfg):
            return None
        return f"{key}={value!r} must be {self.allowed}{self.hint(value)}"

    def check(self, key: str, value: Any, cfg: CfgNode | None = None) -> None:
        """Refuse a wrong value.

        Raises:
            ValueError: the message names the key, its value and what is allowed.
        """
        problem = self.problem(key, value, cfg)
        if problem:
            raise ValueError(problem)


def number(
    low: float = -INFINITE,
    high: float = INFINITE,
    *,
    above: float = -INFINITE,
    below: float = INFINITE,
    whole: bool = False,
) -> Range:
    """A finite number.

    Args:
        low: the smallest allowed.
        high: the largest allowed.
        above: it must be larger than this.
        below: it must be smaller than this.
        whole: only whole numbers.
    """

    def holds(value: Any, cfg: CfgNode | None) -> bool:
        kinds = (int,) if whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return low <= value <= high and above < value < below

    if low > -INFINITE and high < INFINITE:
        words = f"{low:g} to {high:g}"
    else:
        limits = []
        if above > -INFINITE:
            limits.append(f"above {above:g}")
        if low > -INFINITE:
            limits.append(f"{low:g} or more")
        if high < INFINITE:
            limits.append(f"at most {high:g}")
        if below < INFINITE:
            limits.append(f"below {below:g}")
        words = " and ".join(limits) or "any number"
    return Range(words, holds, "whole number" if whole else "number")


def one_of(*names: Any) -> Range:
    """One of some names or numbers."""
    listing = ", ".join("''" if name == "" else str(name) for name in names)
    return Range(f"one of {listing}", lambda value, cfg: _known(value, names), "name")


def _known(value: Any, names: Iterable) -> bool:
    return any(type(value) is type(name) and value == name for name in names)


def each(element: Range, *, exactly: int | None = None, at_least: int = 0) -> Range:
    """A list or tuple of values of one range."""

    def holds(value: Any, cfg: CfgNode | None) -> bool:
        if not isinstance(value, list | tuple) or len(value) < at_least:
            return False
        if exactly is not None and len(value) != exactly:
            return False
        return all(element.holds(x, cfg) for x in value)

    least = f"{at_least} or more" if at_least else "any number of"
    count = str(exactly) if exactly is not None else least
    return Range(f"{count} {element.noun}s, each {element.allowed}", holds)


def ordered(element: Range) -> Range:
    """Two values of one range, the first not above the second."""
    pair = each(element, exactly=2)
    return Range(
        f"{pair.allowed}, the smaller first",
        lambda value, cfg: pair.holds(value, cfg) and value[0] <= value[1],
    )


def names_in(
    known: Callable[[], Collection[str]], what: str, *, several: bool = False, empty: bool = False
) -> Range:
    """A name of a registry, or with `several` a list of them.

    Args:
        known: the names that are registered when the value is checked.
        what: what they name, in words.
        several: the value is a list or tuple of names.
        empty: "" is allowed.
    """

    def right(name: Any) -> bool:
        return isinstance(name, str) and (name in known() or (empty and not name))

    def wrong(value: Any) -> list[Any]:
        values = value if several and isinstance(value, list | tuple) else [value]
        return [name for name in values if not right(name)]

    def hint(value: Any) -> str:
        names = sorted(known())
        if len(names) <= SHORT_LIST:
            return f": one of {', '.join(names)}"
        wanted = str(wrong(value)[0])
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.0)
        return f"; there is no {wanted}: did you mean {' or '.join(near)}?"

    def holds(value: Any, cfg: CfgNode | None) -> bool:
        return not wrong(value)

    words = f"names of {what}s" if several else f"the name of a {what}"
    return Range(f"'' or {words}" if empty else words, holds, "name", hint)
