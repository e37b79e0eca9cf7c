"""What the preparations share: writing whole files, checking all labels, running as a script."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from srnet.data.read import check_label_size, decode, read_label


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


def is_current(path: Path, source: Path, link: bool = False) -> bool:
    """Whether `path` is what would be made from `source` as it is now.

    That is `source` itself, a link to it where `link` asks for one, or otherwise a file with its
    time.
    """
    if not path.is_file():
        return False
    if path.samefile(source):
        return link or not path.is_symlink()
    same_time = abs(path.stat().st_mtime - source.stat().st_mtime) <= 2  # FAT counts in 2 s
    return same_time and not link and not path.is_symlink()


def copy_image(image: Path, path: Path, link: bool) -> bool:
    """Copy an image to `path`, or link to it, unless that is done. Return if written."""
    if is_current(path, image, link):
        return False
    with replacing(path, image) as temporary:
        if link:
            temporary.symlink_to(image.resolve())
        else:
            shutil.copyfile(image, temporary)
    return True


def write_label(indices: np.ndarray, path: Path, source: Path) -> None:
    """Write class indices (H, W) from 0 to 255 as the label image that is made from `source`."""
    with replacing(path, source) as temporary:
        Image.fromarray(indices.astype(np.uint8)).save(temporary, format="PNG")


def convert(item: Conversion, read: Callable[[Path], np.ndarray]) -> bool:
    """Write a label that is not there yet; `read` maps its source to indices. Return if written."""
    if is_current(item.label, item.source):
        return False
    write_label(read(item.source), item.label, item.source)
    return True


def check(item: Conversion, num_classes: int, void: int) -> np.ndarray:
    """Check that an image decodes, and the size of its written label and its range.

    Returns:
        Pixels of each label from 0 to 255.

    Raises:
        ValueError: one of them does not decode, they differ in size, or a label is out of the
            range; the message names the file.
    """
    label = read_label(str(item.label), num_classes, void)
    check_label_size(item.image, decode(item.image).size[::-1], item.label, label.shape)
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


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of every preparation that calls :func:`run`."""
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


def add_link_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of every preparation that calls :func:`copy_image`."""
    parser.add_argument(
        "--link", action="store_true", help="link to the images instead of copying them"
    )


def run_script(module: ModuleType, arguments: Sequence[str] | None = None) -> None:
    """Run a preparation as a script.

    Wrong data, or a package that is not installed, ends it with one line and exit status 1.

    Args:
        module: has `add_arguments(parser)` and `prepare(arguments)`. The first line of its
            docstring describes it, the rest ends its ``--help``.
        arguments: of the command line; those of the process by default.
    """
    description, _, epilog = (module.__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=epilog.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parsed = parser.parse_args(arguments)
    try:
        module.prepare(parsed)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
