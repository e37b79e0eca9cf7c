"""The commands of the documents, as a shell reads them."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCUMENTS = (
    "README.md",
    "INSTALL.md",
    "GETTING_STARTED.md",
    "MODEL_ZOO.md",
    "CONTRIBUTING.md",
    "datasets/README.md",
    "docs/*.md",
    "projects/SRNet/README.md",
    "projects/SRNet/srnet/model_zoo/trained/*.md",
)
# "..." stands for a command whose start an earlier line has.
PROGRAMS = ("srnet", "python", "make", "pip", "uv", "git", "unzip", "tar", "sed", "pytest", "...")
OTHERS = ("pre-commit", "mkdir", "export", "for", "run()", "config=", ".")
STARTS = re.compile(
    rf"^\s*(?:{'|'.join(re.escape(p) for p in (*PROGRAMS, *OTHERS))})(?:[ {{]|configs)",
    re.MULTILINE,
)
# Writes its name and its arguments, a zero byte after each, and a line break.
STUB = """#!/bin/sh
{ printf '%s\\0' "${0##*/}" "$@"; echo; } >> "$COMMANDS"
"""
REAL = ("basename", "mkdir")  # that a block needs to go on
FENCE = re.compile(r"^```(\w*)")
SPAN = re.compile(r"`(srnet [^`\n]+)`")


class Documented(NamedTuple):
    """A command of a document: the program and what it gets."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"


def code_blocks(text: str) -> Iterator[str]:
    """The blocks of a Markdown file that a shell is meant to run, fenced or indented."""
    language, lines = None, []
    for line in [*text.splitlines(), "end"]:
        fence = FENCE.match(line)
        inside = language in ("bash", "sh") if language is not None else line.startswith("    ")
        if inside and not fence and (line.strip() or language):
            lines.append(line)
            continue
        block = "\n".join(lines)
        if STARTS.search(block):
            yield block + "\n"
        lines = []
        if fence:
            language = fence[1] if language is None else None


def in_blocks(root: Path, folder: Path) -> list[Documented]:
    """The commands of all code blocks, with what a shell makes of variables, loops and quotes.

    Bash runs the blocks where each program is a stub that writes down how it was called.

    Args:
        root: the checkout.
        folder: an empty folder to work in.
    """
    stubs, record = folder / "stubs", folder / "commands"
    stubs.mkdir()
    for name in (*PROGRAMS, "pre-commit"):
        (stubs / name).write_text(STUB)
        (stubs / name).chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    for name in REAL:
        (stubs / name).symlink_to(shutil.which(name))
    found = []
    for path in sorted(path for pattern in DOCUMENTS for path in root.glob(pattern)):
        record.write_text("")
        done = subprocess.run(
            [shutil.which("bash"), "-e"],
            input="\n".join(code_blocks(path.read_text())),  # which share variables
            cwd=folder,
            env={"PATH": str(stubs), "COMMANDS": str(record)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (path, done.stderr)
        calls = record.read_text().split("\0\n")[:-1]
        name = str(path.relative_to(root))
        found += [Documented(name, tuple(call.split("\0"))) for call in calls]
    return found


def in_the_text(root: Path) -> list[Documented]:
    """The commands `srnet ...` in running text, whole or only their beginning."""
    return [
        Documented(str(path.relative_to(root)), tuple(shlex.split(span)))
        for path in sorted(path for pattern in DOCUMENTS for path in root.glob(pattern))
        for span in SPAN.findall(path.read_text())
    ]
