"""Names that come from lists, JSON files and records, and the folders that they may not leave.

Paths are compared as they are written, without following links: folders of data sets are often
links. A link inside a data set can so lead out of it (docs/SECURITY.md).
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from detectron2.data import MetadataCatalog


def inside(root: str | os.PathLike, name: str, source: str = "") -> Path:
    """Join the name of a file to the folder that it belongs into.

    Args:
        root: the folder.
        name: a name or a relative path from some data.
        source: where the name comes from, for the message.

    Returns:
        The path of the file.

    Raises:
        ValueError: the name is empty or absolute, or leads out of the folder or to the folder
            itself.
    """
    path = os.path.normpath(name)
    leaves = os.path.isabs(path) or path.split(os.sep)[0] == os.pardir
    if not name or leaves or path == os.curdir or "\0" in name:
        where = f"{source}: " if source else ""
        raise ValueError(
            f"{where}the name {name!r} leads out of {root}: only names inside it are allowed"
        )
    return Path(root) / path


def check_regular(path: str | os.PathLike) -> None:
    """Refuse what is no regular file before it is opened: a pipe would wait for a writer.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it is a folder, a pipe, a socket or a device; the message names it.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{os.fspath(path)} is not a regular file")


@contextmanager
def written_to(path: str | os.PathLike) -> Iterator[None]:
    """Name the file in an error of what writes it, as "No space left on device".

    Python names a file that cannot be opened, but not one that cannot be written to.

    Raises:
        OSError: that of the block, with a file name.
    """
    try:
        yield
    except OSError as error:
        no_file = isinstance(error, ConnectionError)  # a process or a machine at the other end
        if no_file or error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def check_inside_image_root(
    records: Iterable[dict], dataset_name: str, *, allow_outside: bool
) -> None:
    """Refuse images outside the image folder that their dataset is registered with.

    In COCO's format the annotations name the images, and an absolute name or one with ".." reads
    any file. Other datasets list their folders themselves, so they pass.

    Args:
        records: dicts with "file_name".
        dataset_name: the dataset they are of.
        allow_outside: `DATASETS.ALLOW_OUTSIDE_ROOT`.

    Raises:
        ValueError: the first image outside; the message says how to allow it.
    """
    metadata = MetadataCatalog.get(dataset_name)
    root = metadata.get("image_root")
    from_annotations = metadata.get("json_file") or metadata.get("panoptic_json")
    if allow_outside or root is None or not from_annotations:
        return
    folder = os.path.join(os.path.abspath(root), "")
    for record in records:
        # abspath takes "a/../.." apart.
        if not os.path.abspath(record["file_name"]).startswith(folder):
            raise ValueError(
                f"the image {record['file_name']} is outside the image folder {root} of the "
                f"dataset {dataset_name}. Register the dataset with the folder that holds its "
                "images, or set DATASETS.ALLOW_OUTSIDE_ROOT True if you trust its annotations"
            )
