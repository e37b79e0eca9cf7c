"""What a file is, told from its bytes: a checkpoint, or one of the things mistaken for one."""

import os
import stat
import zipfile

EXPECTED = (
    "a PyTorch checkpoint (.pth), a safetensors file or one of Detectron2's zoo (.pkl) is needed"
)
EXPORTED = "save the state_dict of the model that it was exported from"
UNPACK = "unpack it and give the checkpoint inside"

# Offset, bytes, what such a file is, and what to do.
SIGNATURES = (
    (0, b"version https://git-lfs", "a git-lfs pointer", "fetch the file with `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer", "fetch the file with `git annex get`"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", "save a dict of tensors with torch.save"),
    (0, b"\x89HDF", "an HDF5 file (Keras, MATLAB)", EXPECTED),
    (0, b"GGUF", "a GGUF file", EXPECTED),
    (0, b"\x89PNG", "a PNG image", EXPECTED),
    (0, b"\xff\xd8\xff", "a JPEG image", EXPECTED),
    (0, b"%PDF", "a PDF document", EXPECTED),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
)
# torch.save compresses nothing; what unpacks to much more could fill the memory.
MAX_RATIO = 100
HEAD = 4096  # bytes that are looked at
# How PyTorch's files begin: zip archives, and before 1.6 pickles of this number.
ZIP, MAGIC_NUMBER = b"PK", b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class CheckpointError(RuntimeError):
    """A file that cannot be loaded, in one sentence: the file, what it is, what to do."""


def check_is_file(path: str) -> None:
    """Refuse a path that is no file.

    Raises:
        CheckpointError: nothing is there, or a folder, a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint {path} is missing or out of reach "
            f"({getattr(error, 'strerror', None) or error}): check MODEL.WEIGHTS, or the name given"
        ) from error
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{path} is a folder, not a checkpoint: name the file in it")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is a pipe or a device, not a checkpoint: {EXPECTED}")


def check_kind(path: str, *, any_pickle: bool = False) -> None:
    """Refuse a file that begins as something else than a checkpoint.

    Args:
        path: an existing file.
        any_pickle: let plain pickles pass, and text with them: the oldest pickles are text.

    Raises:
        CheckpointError: what it is, and what to do.
    """
    try:
        with open(path, "rb") as f:
            head = f.read(HEAD)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    found = _recognise(head, path, any_pickle)
    if found:
        what, remedy = found
        raise CheckpointError(f"{path} is {what}, not a checkpoint: {remedy}")


def _recognise(head: bytes, path: str, any_pickle: bool) -> tuple[str, str] | None:
    again = "copy or download it again"
    if not head:
        return "empty", again
    if not head.strip(b"\0"):
        return "filled with zeros", again
    for offset, signature, what, remedy in SIGNATURES:
        if head.startswith(signature, offset):
            return what, remedy
    if _begins_as_safetensors(head):
        return None
    if path.endswith(".onnx") or (head[:1] == b"\x08" and head[2:3] == b"\x12"):
        return "an ONNX model", EXPORTED
    if any_pickle or head.startswith(ZIP) or MAGIC_NUMBER in head[:32]:
        return None
    if head[:1] == b"\x80":
        return "a plain pickle", "if it holds NumPy arrays, give it a name that ends in .pkl"
    if _is_text(head):
        start = head.lstrip().lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            return "a web page", "download the file itself, not the page that shows it"
        line = head.decode(errors="replace").strip().partition("\n")[0][:40]
        return f"a text file that begins with {line!r}", EXPECTED
    return "a file of another kind", EXPECTED


def _is_text(head: bytes) -> bool:
    try:
        text = head[: HEAD - 3].decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode()
    return all(c.isprintable() or c in "\r\n\t\f\ufeff" for c in text)


def is_zip(path: str) -> bool:
    """Whether a file begins as a zip archive, the form of `torch.save` since PyTorch 1.6."""
    with open(path, "rb") as f:
        return f.read(2) == ZIP


def is_safetensors(path: str) -> bool:
    """Whether a file begins as a safetensors file: the length of its header, and JSON."""
    with open(path, "rb") as f:
        return _begins_as_safetensors(f.read(9))


def _begins_as_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def check_archive(path: str) -> None:
    """Check that a zip archive is a whole checkpoint, by the CRC of everything in it.

    PyTorch does not check them: a flipped bit would load as another weight.

    Raises:
        CheckpointError: it is damaged, or something else in a zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            claimed = sum(member.file_size for member in archive.infolist())
            if claimed > MAX_RATIO * os.path.getsize(path):
                raise zipfile.BadZipFile(f"it claims to hold {claimed} bytes")
            damaged = archive.testzip()
    except Exception as error:  # zipfile, its decompressors and struct raise their own
        raise CheckpointError(
            f"{path} is damaged or cut off ({error}): copy or download it again"
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the CRC of {damaged} in it does not match; copy or download it "
            "again"
        )
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        raise CheckpointError(f"{path} is a TorchScript archive, not a checkpoint: {EXPORTED}")
    if "data.pkl" not in inside:
        if names and all(name.endswith(".npy") for name in names):
            what, remedy = "an archive of NumPy arrays (.npz)", EXPECTED
        else:
            what, remedy = "a zip archive of other files", UNPACK
        raise CheckpointError(f"{path} is {what}, not a checkpoint: {remedy}")
