"""Files that are whole or not there."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any


def partial_path(path: Path) -> Path:
    """Where a file is written until it is whole: hidden, beside it, with its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".partial-{path.name}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that an interruption leaves the whole of it, or what was there before."""
    partial = partial_path(path)
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class GrowingFile:
    """A text file that grows beside its final place, and moves there when it is closed."""

    def __init__(self, path: Path):
        self.path = path
        self._partial = partial_path(path)
        self.file: IO[str] = open(self._partial, "w", newline="", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        """Put the file in its place."""
        self.file.close()
        os.replace(self._partial, self.path)


class GrowingArrays:
    """A JSON file of arrays that grow on the disk, not in memory.

    Args:
        path: the file.
        names: the arrays' keys; with None alone the file is that array.
        rest: other entries of the file.
    """

    def __init__(self, path: Path, names: tuple[str | None, ...], rest: Mapping[str, Any]):
        self.path, self._rest = path, rest
        path.parent.mkdir(parents=True, exist_ok=True)
        self._parts: dict[str | None, IO[str]] = {
            name: tempfile.TemporaryFile("w+", dir=path.parent, encoding="utf-8")  # noqa: SIM115
            for name in names
        }

    def append(self, name: str | None, item: Any) -> None:
        """Add an item to an array."""
        part = self._parts[name]
        part.write((",\n" if part.tell() else "") + json.dumps(item))

    def close(self) -> None:
        """Join the arrays to the file."""
        whole = GrowingFile(self.path)
        if None in self._parts:
            self._copy(None, whole.file)
        else:
            for name in self._parts:
                whole.file.write("{\n" if name == next(iter(self._parts)) else ",\n")
                whole.file.write(f"{json.dumps(name)}: ")
                self._copy(name, whole.file)
            for name, value in self._rest.items():
                whole.file.write(f",\n{json.dumps(name)}: {json.dumps(value)}")
            whole.file.write("\n}")
        whole.file.write("\n")
        whole.close()

    def _copy(self, name: str | None, target: IO[str]) -> None:
        with self._parts[name] as part:
            part.seek(0)
            target.write("[\n")
            shutil.copyfileobj(part, target)
            target.write("\n]")
