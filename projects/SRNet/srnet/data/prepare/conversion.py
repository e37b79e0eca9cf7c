"""What the preparations share: writing whole files, checking all labels, running as a script."""

import argparse
import ctypes
import glob
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from srnet.checkpoint.files import is_alive
from srnet.data.paths import written_to
from srnet.data.read import check_label_size, decode, read_label


class Conversion(NamedTuple):
    """An image, the file its label comes from, and the label image to write."""

    image: Path
    source: Path
    label: Path


@contextmanager
def replacing(path: Path, source: Path) -> Iterator[Path]:
    """Give a name to write to; the file gets the time of `source` and then the place of `path`.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        with written_to(path):
            yield temporary
        if not temporary.is_symlink():
            os.utime(temporary, ns=(time.time_ns(), source.stat().st_mtime_ns))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(output: Path) -> Iterator[Path]:
    """Give a folder to fill beside `output`, which then takes its place.

    A run that breaks off leaves nothing half made. What a killed one left beside `output` is
    removed by the next one, and `output` is brought back where it was missing at that moment.

    Raises:
        OSError: it cannot be written; the message names a file or the folder.
    """
    _remove_left_folders(output)
    new, old = (
        output.with_name(f"{output.name}.{which}-{socket.gethostname()}.{os.getpid()}")
        for which in ("new", "old")
    )
    try:
        with written_to(new):
            new.mkdir(parents=True)
            yield new
        if not output.exists():
            new.rename(output)
        elif not exchange(new, output):
            output.rename(old)
            new.rename(output)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step, so that neither name is ever missing.

    Returns:
        Whether it was done; not all systems and file systems can.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return rename(here, os.fsencode(first), here, os.fsencode(second), swap) == 0


def _remove_left_folders(output: Path) -> None:
    """Remove what processes of this machine that are gone left beside a folder."""
    for which in ("old", "new"):
        for left in _left_by_others(output.parent, f"{output.name}.{which}-", ""):
            if which == "old" and not output.exists():
                left.rename(output)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _left_by_others(folder: Path, start: str, end: str) -> list[Path]:
    """Paths `start`HOST.PID`end` of this host whose process is gone; `start` may be a pattern."""
    pattern = f"{start}{glob.escape(socket.gethostname())}.*{end}"
    found = []
    for path in folder.glob(pattern):
        pid = path.name.removesuffix(end).rpartition(".")[2]
        if pid.isdigit() and not is_alive(int(pid)):
            found.append(path)
    return found


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
    for folder in {item.label.parent for item in items} | {item.image.parent for item in items}:
        for left in _left_by_others(folder, ".*.", ".tmp"):
            left.unlink(missing_ok=True)
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
    try:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(function, items, chunksize=16)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"a process of {workers} was killed, most likely for lack of memory: lower --workers"
        ) from error


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
