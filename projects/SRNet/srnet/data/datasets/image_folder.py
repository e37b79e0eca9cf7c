"""Folders of classes, ImageNet's layout: FOLDER/CLASS/NAME.jpg.

A list of 1.28 million dicts takes minutes to make and gigabytes in every worker. Here the names are
one array of bytes, and the listing is kept in a file between runs.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from iopath.common.file_io import get_cache_dir
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

_FORMAT = 2


@dataclass
class Listing:
    """The images of a folder of classes, in arrays.

    Attributes:
        classes: names of the classes, sorted: the place in this list is the class index.
        names: all paths, relative to their class folder and one after another, as uint8.
        ends: where each path ends in `names`, int64.
        class_ends: one past the last image of each class, int64.
    """

    classes: list[str]
    names: np.ndarray
    ends: np.ndarray
    class_ends: np.ndarray


class ImageFolder(Dataset):
    """The images of a folder of classes as Detectron2 dicts, made when they are asked for.

    An item has "file_name", "image_id", its place in the listing, and "class_index". Classes and
    names are sorted, so the order is the same everywhere.

    Args:
        folder: has a folder a class; images may lie in folders below those.
        listing: of `folder`.
    """

    def __init__(self, folder: str, listing: Listing):
        self.folder = folder
        self.listing = listing

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.listing.classes

    def __len__(self) -> int:
        return len(self.listing.ends)

    def __getitem__(self, index: int) -> dict:
        ends = self.listing.ends
        if not 0 <= index < len(ends):
            raise IndexError(index)
        start = ends[index - 1] if index else 0
        name = os.fsdecode(self.listing.names[start : ends[index]].tobytes())
        class_index = int(np.searchsorted(self.listing.class_ends, index, side="right"))
        path = os.path.join(self.folder, self.classes[class_index], name)
        return {"file_name": path, "image_id": int(index), "class_index": class_index}


def list_classes(folder: str) -> list[str]:
    """The names of the folders in `folder`, sorted; hidden ones are left out.

    Raises:
        FileNotFoundError: `folder` is missing, or has no folders in it.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"the image folder {os.path.abspath(folder)} is missing")
    with os.scandir(folder) as entries:
        classes = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    if not classes:
        raise FileNotFoundError(
            f"{os.path.abspath(folder)} has no class folders in it: images are looked for in "
            "FOLDER/CLASS/NAME.jpg"
        )
    return classes


def load_image_folder(folder: str) -> ImageFolder:
    """List a folder of classes, or read its listing of an earlier run.

    The listing is kept in iopath's cache folder (`FVCORE_CACHE`, `~/.torch/iopath_cache` by
    default) and used again as long as no folder below `folder` was changed since.

    Raises:
        FileNotFoundError: `folder` is missing or has no folders in it.
        ValueError: a class has no images; the message names it.
    """
    classes = list_classes(folder)
    cache = _cache_path(folder)
    listing = _read_cache(cache, folder, classes)
    if listing is None:
        started = time.time()
        listing, directories = _scan(folder, classes)
        _write_cache(cache, listing, directories, started)
    return ImageFolder(folder, listing)


def pack(classes: list[str], names_by_class: Iterator[list[str]]) -> Listing:
    """Make the listing of classes and, for each, the sorted paths of its images."""
    chunks, lengths, counts = [], [], []
    for names in names_by_class:
        encoded = [os.fsencode(name) for name in names]
        chunks.append(b"".join(encoded))
        lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        counts.append(len(encoded))
    return Listing(
        classes,
        np.frombuffer(b"".join(chunks), np.uint8),
        np.cumsum(np.concatenate(lengths)),
        np.cumsum(np.array(counts, np.int64)),
    )


def _scan(folder: str, classes: list[str]) -> tuple[Listing, dict[str, int]]:
    """List the images, and the modification times of all folders in nanoseconds."""
    directories: dict[str, int] = {}

    def names_by_class() -> Iterator[list[str]]:
        for name in classes:
            names = sorted(_images(os.path.join(folder, name), "", folder, directories))
            if not names:
                raise ValueError(
                    f"the class folder {os.path.abspath(os.path.join(folder, name))} has no images "
                    f"({', '.join(IMG_EXTENSIONS)})"
                )
            yield names

    return pack(classes, names_by_class()), directories


def _images(path: str, prefix: str, folder: str, directories: dict[str, int]) -> Iterator[str]:
    directories[os.path.relpath(path, folder)] = os.stat(path).st_mtime_ns
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):  # such as macOS's ._NAME beside each NAME
                continue
            if entry.name.lower().endswith(IMG_EXTENSIONS):
                yield prefix + entry.name
            elif entry.is_dir():
                yield from _images(entry.path, f"{prefix}{entry.name}/", folder, directories)


def _cache_path(folder: str) -> str:
    key = hashlib.sha1(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    return os.path.join(get_cache_dir(), "srnet", f"image_folder_{key}.npz")


def _read_cache(path: str, folder: str, classes: list[str]) -> Listing | None:
    """The listing in `path`, or None where there is none that holds for `folder`."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            directories = _split(saved["directories"])
            times = saved["times"].tolist()
            valid = int(saved["format"]) == _FORMAT and _split(saved["classes"]) == classes
            for name, time_ns in zip(directories, times, strict=True):
                valid = valid and os.stat(os.path.join(folder, name)).st_mtime_ns == time_ns
            if not valid:
                return None
            listing = Listing(classes, saved["names"], saved["ends"], saved["class_ends"])
    except FileNotFoundError:
        return None
    except Exception as error:  # NumPy has no one error for a damaged file
        logging.getLogger(__name__).warning("cannot use %s, listing %s: %s", path, folder, error)
        return None
    logging.getLogger(__name__).info("%s: listing of %s", folder, path)
    return listing


def _write_cache(path: str, listing: Listing, directories: dict[str, int], started: float) -> None:
    # A folder that changes within the resolution of its file system's clock after it was listed
    # would look unchanged.
    if max(directories.values()) > (started - 2) * 1e9:
        return
    partial = f"{path}.{os.getpid()}.npz"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        np.savez(
            partial,
            format=_FORMAT,
            classes=_join(listing.classes),
            directories=_join(directories),
            times=np.array(list(directories.values()), np.int64),
            names=listing.names,
            ends=listing.ends,
            class_ends=listing.class_ends,
        )
        os.replace(partial, path)
    except OSError as error:
        logging.getLogger(__name__).warning("cannot keep the listing in %s: %s", path, error)


def _join(names: Iterable[str]) -> np.ndarray:
    return np.frombuffer(os.fsencode("\0".join(names)), np.uint8)


def _split(names: np.ndarray) -> list[str]:
    return os.fsdecode(names.tobytes()).split("\0")
