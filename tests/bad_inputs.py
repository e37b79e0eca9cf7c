"""Bad inputs: the ways to change a right one, and the two ends that a run on one may have."""

import copy
import hashlib
import json
import math
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import srnet
from hypothesis import strategies as st
from srnet.cli.errors import explain

SECONDS = 30  # after which a run counts as hanging
PACKAGE = os.path.dirname(srnet.__file__)
# Detectron2's own errors that name file and values; nothing of ours stands around them.
OF_DETECTRON2 = ("SizeMismatchError",)


def tree_of(folder: Path) -> dict[str, str]:
    """Every path below a folder, with a hash of the content of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if regular else "no file"
        found[str(path.relative_to(folder))] = content
    return found


@contextmanager
def nothing_written(folder: Path) -> Iterator[None]:
    """Check that a folder, in which the working and the temporary directory are, stays as it is."""
    (folder / "temporary").mkdir(exist_ok=True)
    before, place, temporary = tree_of(folder), os.getcwd(), tempfile.tempdir
    os.chdir(folder)
    tempfile.tempdir = str(folder / "temporary")
    try:
        yield
    finally:
        os.chdir(place)
        tempfile.tempdir = temporary
    after = tree_of(folder)
    assert after == before, {k for k in before | after if before.get(k) != after.get(k)}


def attempt(run: Callable[[], object], folder: Path, *named: str) -> object:
    """Run something on a bad input.

    Args:
        run: reads the input.
        folder: the input and all around it; it must stay as it is.
        named: names of files and keys, one of which an error must have.

    Returns:
        What `run` returns, or the message of the error that it ended with, as an `Error`.

    Raises:
        AssertionError: it hangs, writes something, or ends with an error that is not explained.
    """
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(SECONDS)
    try:
        with nothing_written(folder):
            try:
                return run()
            except Exception as error:
                return _checked(error, named)
    finally:
        signal.alarm(0)


class Error(str):
    """The message of an expected error."""


def _hang(number, frame):
    raise AssertionError(f"it hangs: {SECONDS} s are over")


def _checked(error: Exception, named: tuple[str, ...]) -> Error:
    """The message of an error, if it is one that a user can act on."""
    shown = "".join(traceback.format_exception(error))
    text = explain(error)
    assert text is not None and not isinstance(error, AssertionError), (
        f"an error of another kind:\n{shown}"
    )
    assert any(name in text for name in named), f"the message does not name {named!r}:\n{shown}"
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = raised_in.startswith(PACKAGE) or type(error).__name__ in OF_DETECTRON2
    assert ours, f"an error of another library:\n{shown}"
    return Error(text)


# Changes of a value in JSON. Those that do not apply to a value return it as it is.
REMOVED = object()


def _number(change: Callable) -> Callable:
    return lambda value: change(value) if type(value) in (int, float) else value


def _list(change: Callable) -> Callable:
    return lambda value: change(value) if isinstance(value, list) else value


CHANGES: dict[str, Callable] = {
    "removed": lambda value: REMOVED,
    "null": lambda value: None,
    "true": lambda value: True,
    "a text": lambda value: "something",
    "an empty text": lambda value: "",
    "as a text": lambda value: json.dumps(value) if not isinstance(value, str) else value,
    "in a list": lambda value: [value],
    "an empty list": lambda value: [],
    "an empty object": lambda value: {},
    "an object": lambda value: {"value": value},
    "a half more": _number(lambda value: value + 0.5),
    "as a float": _number(float),
    "negative": _number(lambda value: -value - 2),
    "zero": _number(lambda value: 0),
    "one more": _number(lambda value: value + 1),
    "NaN": _number(lambda value: math.nan),
    "infinite": _number(lambda value: math.inf),
    "large": _number(lambda value: 2**31),
    "huge": _number(lambda value: 10**30),
    "an endless number": _number(lambda value: 10**400),
    "a huge float": _number(lambda value: 1e300),
    "twice": _list(lambda value: [*value, *copy.deepcopy(value)]),
    "without its last": _list(lambda value: value[:-1]),
    "with null": _list(lambda value: [*value, None]),
    "nested once more": _list(lambda value: [[item] for item in value]),
}


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Every place in JSON content, as the keys and indices that lead to it."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def place_name(path: tuple) -> str:
    """The kind of a place: its keys, with [] for an index."""
    return "".join("[]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def changed(content: object, path: tuple, change: str) -> object:
    """A copy of JSON content with a change at a place; None where the change does not apply."""
    made = copy.deepcopy(content)
    parent = made
    try:
        for key in path[:-1]:
            parent = parent[key]
        before = parent[path[-1]]
    except (IndexError, KeyError, TypeError):  # an earlier change took it away
        return None
    after = CHANGES[change](before)
    if after is REMOVED:
        del parent[path[-1]]
        return made
    if after is before:
        return None
    parent[path[-1]] = after
    return made


def all_changes(content: object) -> Iterator[tuple[str, object]]:
    """Each change at the first place of each kind, with its name."""
    first = {}
    for path in places(content):
        first.setdefault(place_name(path), path)
    for name, path in first.items():
        for change in CHANGES:
            made = changed(content, path, change)
            if made is not None:
                yield f"{name} {change}", made


def file_changes(content: bytes) -> dict[str, bytes]:
    """What may become of a file on its way."""
    middle = len(content) // 2
    return {
        "empty": b"",
        "cut off in the middle": content[:middle],
        "without its last byte": content[:-1],
        "with a byte order mark": b"\xef\xbb\xbf" + content,
        "a web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
        "zeros": bytes(len(content)),
        "a byte less": content[:middle] + content[middle + 1 :],
        "in UTF-16": content.decode("latin-1").encode("utf-16"),
        "a text": b"see the other folder\n",
        "lists in lists": b"[" * 100_000,
        "twice": content * 2,
    }


@st.composite
def two_changes(draw, content):
    """What `content` makes with two changes anywhere, and their name."""
    made, names = content(), []
    for _ in range(2):
        path = draw(st.sampled_from(list(places(made))))
        change = draw(st.sampled_from(sorted(CHANGES)))
        other = changed(made, path, change)
        if other is not None:
            made = other
            names.append(f"{place_name(path)} {change}")
    return " and ".join(names), made
