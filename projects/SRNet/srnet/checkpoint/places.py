"""Where weights lie: a file, a URL, or a file of an installed package; with its hash or without.

``PLACE#sha256=HASH`` names weights whose bytes have that SHA-256, as pip writes it.
"""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from srnet.extras import EXTRAS, require_extra

from .file_kinds import CheckpointError
from .safetensors_file import sha256_of_file

PACKAGE = "package://"
_HASH = re.compile(r"(.+)#sha256=([^#]*)")


class Place(NamedTuple):
    """A place of weights."""

    path: str  # of a file, or a URL
    sha256: str | None

    def check(self, file: str) -> None:
        """Refuse a file that is not the one that was published.

        Args:
            file: that of the place, or where its URL was kept.

        Raises:
            CheckpointError: it has another hash; the message has both.
        """
        if self.sha256 is None:
            return
        found = sha256_of_file(file)
        if found != self.sha256:
            raise CheckpointError(
                f"{file} is not the file that was published, or it is cut off: its SHA-256 is "
                f"{found}, and it must be {self.sha256}; copy or download it again"
            )


def find_place(text: str) -> Place:
    """Read what names weights, as `MODEL.WEIGHTS` does.

    Args:
        text: a path, a URL, or ``package://MODULE/PATH``, a file inside an installed Python
            package, which is not imported; ``#sha256=HASH`` may follow.

    Raises:
        CheckpointError: the hash is not one of 64 digits, or the package is not installed.
    """
    match = _HASH.fullmatch(text)
    path, sha256 = match.groups() if match and not os.path.exists(text) else (text, None)
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise CheckpointError(
            f"{text}: a SHA-256 has 64 hexadecimal digits, and this one is {sha256!r}"
        )
    if path.startswith(PACKAGE):
        path = _in_package(path)
    return Place(path, sha256.lower() if sha256 else None)


def _in_package(url: str) -> str:
    module, _, inside = url.removeprefix(PACKAGE).partition("/")
    spec = find_spec(module) if re.fullmatch(r"\w+", module) else None
    if spec is None and module in EXTRAS:
        try:
            require_extra(module, url)
        except ModuleNotFoundError as error:
            raise CheckpointError(str(error)) from error
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            f"{url}: no package {module} is installed; the form is {PACKAGE}MODULE/PATH"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    file = folder / inside
    if not inside or not file.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(f"{url} names no file inside the package {module}")
    return str(file)
