"""Records that one process of a machine loads and all of its processes read.

COCO's annotations take gigabytes while they are read. The first process of each machine reads and
checks them and writes the records into a temporary file. All processes map that file into memory,
so they share its pages, their workers too. It is deleted as soon as all have mapped it.
"""

import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch.utils.data import Dataset

from .mapped_dataset import Items
from .paths import written_to

Loaded = tuple[list[dict] | Items[dict], Any]
PREFIX = "srnet_records_"
POLL_SECONDS = 0.05
READ_SECONDS = 60.0  # that the others may take to map a file that is complete
_HEADER, _RECORDS = "header", "records"


class MappedRecords(Dataset):
    """Records in a file that is mapped into memory; each is unpickled when it is asked for.

    Args:
        path: pickled records, one after another. The file may be deleted later.
        ends: where each of them ends, in bytes, int64.
    """

    def __init__(self, path: str, ends: np.ndarray):
        self.ends = ends
        size = int(ends[-1]) if len(ends) else 0
        # A tensor, since PyTorch moves it to shared memory for workers that start anew.
        self.content = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self.ends):
            raise IndexError(index)
        start = self.ends[index - 1] if index else 0
        return pickle.loads(self.content[start : self.ends[index]].numpy().data)


def load_once(load: Callable[[], Loaded], names: Sequence[str]) -> tuple[Items[dict], Any]:
    """Load records in the first process of each machine, and share them with the others there.

    All processes call this at the same point of the program. How long the loading takes is not
    limited: the others do not wait in a collective operation.

    Args:
        load: returns records, and something small that is pickled for each process. Only the first
            process of a machine calls it.
        names: the datasets; what loading adds to their metadata is added in all processes.

    Returns:
        The records, a list in a file or the dataset that `load` returned, and the something.

    Raises:
        Exception: what `load` raised, in all processes of the machine.
    """
    rank, processes = comm.get_local_rank(), comm.get_local_size()
    folder = tempfile.mkdtemp(prefix=PREFIX) if rank == 0 else ""
    try:
        if processes > 1:
            folder = comm.all_gather(folder)[comm.get_rank() - rank]
        if rank:
            return _read(folder, rank)
        try:
            _load_and_write(load, names, folder)
        except BaseException as error:
            _publish(folder, {"error": _picklable(error)})
            raise
        return _read(folder, rank)
    finally:
        if rank == 0:
            _wait_for_readers(folder, processes)
            shutil.rmtree(folder, ignore_errors=True)


def _load_and_write(load: Callable[[], Loaded], names: Sequence[str], folder: str) -> None:
    before = {name: set(MetadataCatalog.get(name).as_dict()) for name in names}
    records, more = load()
    added = {
        name: {k: v for k, v in MetadataCatalog.get(name).as_dict().items() if k not in known}
        for name, known in before.items()
    }
    header = {"more": more, "metadata": added}
    if not isinstance(records, list):
        _publish(folder, {**header, "dataset": records})
        return
    ends, end = np.empty(len(records), np.int64), 0
    path = os.path.join(folder, _RECORDS)
    with written_to(path), open(path, "wb") as file:
        for index, record in enumerate(records):
            end += file.write(pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL))
            ends[index] = end
    _publish(folder, {**header, "ends": ends})


def _publish(folder: str, header: dict) -> None:
    """Write the header, whose presence tells the others that everything is there."""
    path = os.path.join(folder, _HEADER)
    with written_to(path), open(f"{path}.partial", "wb") as file:
        pickle.dump(header, file, protocol=pickle.HIGHEST_PROTOCOL)
    os.replace(f"{path}.partial", path)


def _picklable(error: BaseException) -> BaseException:
    """The error, or its text where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _read(folder: str, rank: int) -> tuple[Items[dict], Any]:
    """Map what the first process has written, and mark it as read."""
    path = os.path.join(folder, _HEADER)
    while not os.path.exists(path):
        if not os.path.isdir(folder):
            raise RuntimeError("the process that loads the annotations has ended")
        time.sleep(POLL_SECONDS)
    with open(path, "rb") as file:
        header = pickle.load(file)
    if "ends" in header:
        records: Items[dict] = MappedRecords(os.path.join(folder, _RECORDS), header["ends"])
    else:
        records = header.get("dataset")
    with open(os.path.join(folder, f"read_{rank}"), "w"):
        pass
    if "error" in header:
        raise header["error"]
    for name, added in header["metadata"].items():
        MetadataCatalog.get(name).set(**added)
    return records, header["more"]


def _wait_for_readers(folder: str, processes: int) -> None:
    """Wait for the other processes of the machine; one that does not come may have ended."""
    until = time.monotonic() + READ_SECONDS
    paths = [os.path.join(folder, f"read_{rank}") for rank in range(1, processes)]
    while not all(map(os.path.exists, paths)) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
