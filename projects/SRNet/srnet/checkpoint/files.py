"""Checkpoint files: read without running code from them, written whole or not at all."""

import glob
import os
import pickle
import re
import socket
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from .file_kinds import (
    CheckpointError,
    check_archive,
    check_is_file,
    check_kind,
    is_safetensors,
    is_zip,
)
from .safetensors_file import read_safetensors, safetensors_bytes

# What Detectron2's zoo pickles: dicts of NumPy arrays and numbers.
_SAFE_GLOBALS = re.compile(
    r"(numpy(\._?core)?(\.multiarray|\.numeric)?\.(_reconstruct|ndarray|dtype|scalar|_frombuffer))"
    r"|collections\.OrderedDict|_codecs\.encode"
)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if not _SAFE_GLOBALS.fullmatch(f"{module}.{name}"):
            raise _UnsafeGlobal(f"{module}.{name}")
        return super().find_class(module, name)


class _UnsafeGlobal(pickle.UnpicklingError):
    pass


def read_file(path: str | os.PathLike) -> Any:
    """Read a `.pth`, a safetensors file or a `.pkl` of NumPy arrays, whole and as data only.

    The bytes say which of them it is, but for pickles of arrays, which must be named `.pkl`. No
    code in a file runs.

    Returns:
        What was saved, on the CPU; of safetensors, what :func:`.read_safetensors` returns.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint, or holds more than arrays,
            tensors and numbers.
    """
    path = os.fspath(path)
    check_is_file(path)
    of_arrays = is_pickle_of_arrays(path)
    check_kind(path, any_pickle=of_arrays)
    if is_safetensors(path):
        return read_safetensors(path)
    return _unpickle(path) if of_arrays else _torch_load(path)


def is_pickle_of_arrays(path: str) -> bool:
    """Whether a file is to be read as Detectron2's `.pkl`."""
    return path.endswith(".pkl") and not (is_zip(path) or is_safetensors(path))


def _unpickle(path: str) -> object:
    try:
        with open(path, "rb") as f:
            return _ArrayUnpickler(f, encoding="latin1").load()
    except _UnsafeGlobal as error:
        raise _refuse_objects(path, {str(error)}) from error
    except Exception as error:  # a damaged pickle raises anything
        with open(path, "rb") as f:
            if f.read(1) != b"\x80":
                check_kind(path)
        raise CheckpointError(
            f"{path} is damaged or no pickle ({_first_line(error)}): copy or download it again"
        ) from error


def _torch_load(path: str) -> object:
    if is_zip(path):
        check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        unsafe = _unsafe_globals(path, str(error))
        if unsafe:
            raise _refuse_objects(path, unsafe) from error
        raise CheckpointError(
            f"{path} is damaged or no checkpoint of PyTorch ({_first_line(error)}): copy or "
            "download it again"
        ) from error


def _unsafe_globals(path: str, message: str) -> set[str]:
    """The classes and functions that a file refers to and that are not allowed."""
    if is_zip(path):
        try:
            return set(get_unsafe_globals_in_checkpoint(path))
        except Exception:  # the pickle is damaged
            return set()
    return set(re.findall(r"GLOBAL ([\w.]+)", message)[:1])


def _refuse_objects(path: str, names: set[str]) -> CheckpointError:
    foreign = sorted(name for name in names if not _SAFE_GLOBALS.fullmatch(name))
    if not foreign:
        return CheckpointError(
            f"{path} holds NumPy arrays, where a .pth holds tensors: save it again with "
            "torch.from_numpy of each array, or as a plain pickle with a name that ends in .pkl"
        )
    return CheckpointError(
        f"{path} holds more than arrays and tensors, a whole model or other Python objects "
        f"({', '.join(foreign[:3])}), and could run code: load it where you trust it, and save its "
        "state_dict() alone"
    )


def _first_line(error: BaseException) -> str:
    # PyTorch's long text on this advises to turn weights_only off.
    text = "its pickle is damaged" if "weights_only" in str(error) else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def write_file(data: Any, path: str | os.PathLike) -> None:
    """Write a checkpoint with `torch.save`, so that `path` is always a whole file or the old one.

    It is written beside its place under a name of its own, and renamed.

    Args:
        data: what to save.
        path: where to; an existing file is replaced.

    Raises:
        OSError: it cannot be written, as "No space left on device"; the message names the file.
    """
    path = os.fspath(path)
    _remove_partials(path)
    replace_file(path, lambda f: torch.save(data, f))


def write_safetensors(
    state: Mapping[str, torch.Tensor], path: str | os.PathLike, **metadata: str
) -> None:
    """Write weights as safetensors, whole or not at all.

    Args:
        state: tensors by name.
        path: where to; an existing file is replaced.
        metadata: texts that the file holds beside them.

    Raises:
        OSError: as :func:`write_file`.
    """
    content = safetensors_bytes(state, **metadata)
    replace_file(os.fspath(path), lambda f: f.write(content))


def replace_file(path: str, write: Callable[[Any], object]) -> None:
    """Replace a file by what `write` writes into an open binary file, or leave it as it was.

    Raises:
        OSError: as :func:`write_file`.
    """
    partial = f"{path}.{socket.gethostname()}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as raw:
            file = _RememberingFile(raw)
            try:
                write(file)
            except RuntimeError:
                if file.error is None:
                    raise
                # PyTorch's writer reports its own state instead of the system's reason.
                raise file.error from None
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"{reason}, while saving the checkpoint", path) from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)


class _RememberingFile:
    """A file for `torch.save` that remembers why a write failed."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_weights(path: str | os.PathLike, state: dict[str, torch.Tensor], **more: Any) -> None:
    """Write the weights of a backbone as Detectron2's checkpointer reads them.

    Whatever model has the backbone, its parameters are found by the ends of their names.

    Args:
        path: where to, as in :func:`write_file`; a name that ends in .safetensors has that form.
        state: tensors by name.
        more: what else the file says.
    """
    if os.fspath(path).endswith(".safetensors"):
        texts = {key: str(value) for key, value in more.items()}
        write_safetensors(state, path, **texts, matching_heuristics="True")
        return
    write_file({"model": state, "matching_heuristics": True, **more}, path)


def _remove_partials(path: str) -> None:
    """Remove what processes of this machine that have ended began to write."""
    for partial in glob.glob(f"{glob.escape(path)}.{socket.gethostname()}.*.partial"):
        pid = partial.split(".")[-2]
        if pid.isdigit() and not is_alive(int(pid)):
            os.remove(partial)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
