"""What the scripts that convert a dataset's labels share: writing whole files, and checking all."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from srnet.data.read import read_label


class Conversion(NamedTuple):
    """An image, the file its label comes from, and the label image to write."""

    image: Path
    source: Path
    label: Path


@contextmanager
def replacing(path: Path, source: Path) -> Iterator[Path]:
    """Give a name to write to; the file gets the time of `source` and then the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if not temporary.is_symlink():
            os.utime(temporary, ns=(time.time_ns(), source.stat().st_mtime_ns))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(output: Path) -> Iterator[Path]:
    """Give a folder to fill beside `output`, which then takes its place.

    A run that breaks off leaves nothing half made.
    """
    new, old = (
        output.with_name(f"{output.name}.{which}-{os.getpid()}") for which in ("new", "old")
    )
    try:
        new.mkdir(parents=True)
        yield new
        if output.exists():
            output.rename(old)
        new.rename(output)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def is_current(path: Path, source: Path) -> bool:
    """Whether `path` was made from `source` as it is now: it bears its time."""
    # FAT counts in 2 s.
    return path.is_file() and abs(path.stat().st_mtime - source.stat().st_mtime) <= 2


def convert(item: Conversion, read: Callable[[Path], np.ndarray]) -> bool:
    """Write a label that is not there yet; `read` maps its source to indices. Return if written."""
    if is_current(item.label, item.source):
        return False
    indices = read(item.source)
    with replacing(item.label, item.source) as temporary:
        Image.fromarray(indices.astype(np.uint8)).save(temporary, format="PNG")
    return True


def check(item: Conversion, num_classes: int, void: int) -> np.ndarray:
    """Check the size of a written label against its image, and its range.

    Returns:
        Pixels of each label from 0 to 255.

    Raises:
        ValueError: they differ in size, or a label is out of the range; the message names the file.
    """
    label = read_label(str(item.label), num_classes, void)
    try:
        with Image.open(item.image) as image:
            size = image.size
    except (OSError, SyntaxError) as error:  # Pillow has both for broken files
        raise ValueError(f"cannot read the image {item.image}: {error}") from error
    if size != label.shape[::-1]:
        raise ValueError(
            f"{item.image} has {size[0]} x {size[1]} pixels, its label {item.label} "
            f"{label.shape[1]} x {label.shape[0]}"
        )
    return np.bincount(label.ravel(), minlength=256)


def run(
    split: str,
    items: list[Conversion],
    read: Callable[[Path], np.ndarray],
    *,
    num_classes: int,
    void: int,
    workers: int,
) -> None:
    """Convert and check all labels of a split, in processes, and print what it holds."""
    written = sum(_map(partial(convert, read=read), items, workers))
    counts = np.zeros(256, np.int64)
    for found in _map(partial(check, num_classes=num_classes, void=void), items, workers):
        counts += found
    classes = np.count_nonzero(np.delete(counts, void))
    print(
        f"{split}: {len(items)} images, {written} labels written; {classes} classes occur, "
        f"{100 * counts[void] / max(counts.sum(), 1):.1f} % of the pixels are void"
    )


def _map(function: Callable, items: list, workers: int) -> Iterable:
    if workers <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(function, items, chunksize=16)


def check_count(what: str, found: int, expected: int, partial_: bool) -> None:
    """Refuse another number of images than a complete split has, unless a part is asked for.

    Raises:
        ValueError: the numbers differ; the message says how to go on regardless.
    """
    if found != expected and not partial_:
        raise ValueError(
            f"{what} holds {found} images, the complete split has {expected}; --partial takes what "
            "there is"
        )


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser with the options that every script which calls :func:`run` has."""
    parser = argparse.ArgumentParser(
        description=doc.partition("\n")[0], epilog="datasets/README.md says what to download."
    )
    parser.add_argument(
        "--partial", action="store_true", help="take a part of the dataset instead of all of it"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=os.cpu_count() or 1,
        help="processes (default: %(default)s)",
    )
    return parser


def main(prepare: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """Run a script; what is wrong with the data ends it with one line."""
    try:
        prepare(arguments)
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
