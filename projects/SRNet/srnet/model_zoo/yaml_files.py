"""Reading config files as data: YAML without tags that run code, and the files they build on."""

from collections.abc import Hashable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from .merging import brief
from .names import CONFIGS

BASE_KEY = "_BASE_"
# What no config comes near: a few lines of aliases or bases can stand for billions of values.
MAX_VALUES = 100_000
MAX_FILES = 100


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with errors for repeated keys and for aliases without end."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _count_values(node: yaml.Node, counts: dict[yaml.Node, int]) -> int:
    """Count the values in a node, those behind an alias each time that it is named.

    Raises:
        yaml.constructor.ConstructorError: they are too many, or the node holds itself.
    """
    problem = ""
    if node not in counts:
        counts[node] = -1  # being counted
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        pairs = (item if isinstance(item, tuple) else (item,) for item in inner)
        counts[node] = 1 + sum(_count_values(part, counts) for pair in pairs for part in pair)
        if counts[node] > MAX_VALUES:
            problem = f"its aliases (*) make more than {MAX_VALUES} values of it"
    elif counts[node] < 0:
        problem = "an alias (*) stands inside of what it names"
    if problem:
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return counts[node]


def _refuse_tag(loader: _Loader, node: yaml.Node) -> None:
    problem = f"the tag {node.tag} is not allowed: a config file holds data alone"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_constructor(None, _refuse_tag)


def read_with_bases(path: Path) -> list[tuple[Path, dict]]:
    """Read a config file and all files it builds on.

    A file names them under `_BASE_`: one path or a list of paths, relative to its own folder, or
    names of the model zoo. An existing file wins. Later ones override earlier ones, and the file
    overrides them all. Detectron2's reader has the same rules, without the names. This one never
    runs code, reads local files only, and says what is wrong with a file.

    Args:
        path: the file.

    Returns:
        Each file with its content, in the order in which they are merged: the file itself is last.

    Raises:
        FileNotFoundError: the file or one it builds on is missing.
        IsADirectoryError: one of them is a folder.
        ValueError: one of them is not a readable config; the message names it and the line.
    """
    return _read(Path(path), (), count())


def _read(path: Path, above: tuple[Path, ...], number: Iterator[int]) -> list[tuple[Path, dict]]:
    """Read a file that those `above` build on; `number` counts the files."""
    if next(number) >= MAX_FILES:
        raise ValueError(f"{(*above, path)[0]} builds on more than {MAX_FILES} files ({BASE_KEY})")
    if path.resolve() in (file.resolve() for file in above):
        chain = " -> ".join(map(str, (*above, path)))
        raise ValueError(f"{above[-1]}: {BASE_KEY} leads back to the same file: {chain}")
    content = _parse(path)
    bases = content.pop(BASE_KEY, [])
    files = []
    for base in bases if isinstance(bases, list) else [bases]:
        files += _read(_locate(base, path), (*above, path), number)
    return [*files, (path, content)]


def _locate(base: object, path: Path) -> Path:
    """The path of a file that `path` names under `_BASE_`."""
    if not isinstance(base, str) or not base:
        given = brief.repr(base)
        raise ValueError(f"{path}: {BASE_KEY} must be a path or a list of paths, not {given}")
    if "://" in base:
        raise ValueError(f"{path}: {BASE_KEY} is {base}, but only local files are read")
    try:
        found = path.parent / Path(base).expanduser()
        if found.exists():
            return found
    except (OSError, RuntimeError) as error:  # the name is too long; there is no such user
        raise ValueError(f"{path}: {BASE_KEY} is {brief.repr(base)}: {error.args[-1]}") from error
    of_zoo = CONFIGS / base
    if of_zoo.is_file() and of_zoo.resolve().is_relative_to(CONFIGS.resolve()):
        return of_zoo
    raise FileNotFoundError(
        f"{path}: {BASE_KEY} names {base}, and there is no file {found} and no such name in the "
        "model zoo ('srnet config --list')"
    )


def _parse(path: Path) -> dict:
    """Read one file, which must hold keys and values."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a config file")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if not path.exists():
        raise FileNotFoundError(f"there is no config file {path}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: {error.problem or error.context}") from error
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ValueError(f"{path} is not a YAML file: it is not UTF-8 text") from error
    except (RecursionError, ValueError) as error:  # nested too deep; a date that does not exist
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if content is None:
        raise ValueError(f"{path} is empty: a config holds keys and values")
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path} holds a single {kind}: a config holds keys and values")
    return content
