"""Weights as safetensors: a header of names and shapes, and bytes; nothing in it can run code."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .file_kinds import CheckpointError

# The metadata entry with the hash of all tensors: the format itself has no checksum.
TENSORS = "tensors_sha256"
# What the bytes of a half are after reading: norms and convolutions of a model are in float32.
HALVES = (torch.float16, torch.bfloat16)


def read_safetensors(path: str) -> dict[str, dict]:
    """Read a file whole; numbers of 16 bits become float32.

    Returns:
        Tensors by name as "model", and the file's texts by name as "metadata".

    Raises:
        CheckpointError: it is damaged: cut off, or its tensors are not those that were written.
    """
    with _opened(path) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if TENSORS in metadata:
        found = hash_of(tensors)
        if found != metadata[TENSORS]:
            raise CheckpointError(
                f"{path} is damaged: its tensors have the SHA-256 {found}, and were written with "
                f"{metadata[TENSORS]}; copy or download it again"
            )
    model = {name: t.float() if t.dtype in HALVES else t for name, t in tensors.items()}
    return {"model": model, "metadata": metadata}


def read_metadata(path: str) -> dict[str, str]:
    """The texts of a file by name, without its tensors; see :func:`read_safetensors` for errors."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: str) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is a damaged or cut safetensors file ({error}): copy or download it again"
        ) from error


def safetensors_bytes(state: Mapping[str, torch.Tensor], **metadata: str) -> bytes:
    """The content of a safetensors file.

    Args:
        state: tensors by name.
        metadata: texts that the file holds beside them; the hash of the tensors is added.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return save(tensors, {**metadata, TENSORS: hash_of(tensors)})


def hash_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of names, types, shapes and bytes, whatever the order in the file is."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's bytes."""
    with open(path, "rb") as f:
        digest = hashlib.sha256()
        while chunk := f.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
