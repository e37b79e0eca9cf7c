"""Files, folders, globs, videos and cameras as one stream of named pictures."""

import glob
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
from PIL import Image

from srnet.data.paths import inside
from srnet.data.read import UnreadableImageError, read_rgb

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
FPS = 25.0  # of a video or camera that does not tell


class Clip(NamedTuple):
    """The video that a picture is a frame of.

    Attributes:
        name: the name of its output, without suffix.
        fps: frames a second.
    """

    name: str
    fps: float


@dataclass(frozen=True)
class Source:
    """A picture that is not decoded yet, or an input that cannot be.

    Attributes:
        name: the name of its outputs, without suffix, relative to a folder; no two are the same.
        path: where it comes from, for messages and results.
        read: decodes it to 8-bit RGB; raises UnreadableImageError.
        clip: of a frame, its video.
    """

    name: str
    path: str
    read: Callable[[], Image.Image]
    clip: Clip | None = None


@dataclass
class Inputs:
    """What a user named, checked and listed, but not read.

    Attributes:
        entries: paths (or the number of a camera), and the names of their outputs.
    """

    entries: list[tuple[str | int, str]] = field(default_factory=list)

    @property
    def count(self) -> int | None:
        """The number of pictures; None where only reading a video tells."""
        return None if any(_is_video(path) for path, _ in self.entries) else len(self.entries)

    def __iter__(self) -> Iterator[Source]:
        for path, name in self.entries:
            if _is_video(path):
                yield from read_video(path, name)
            else:
                yield Source(name, str(path), _reader(str(path)))


def list_inputs(
    inputs: Sequence[str | os.PathLike], *, recursive: bool = False, exclude: str | os.PathLike = ""
) -> Inputs:
    """Find the pictures that a user names.

    A folder stands for its images, and not for its videos or hidden files. The names of outputs
    follow from those of the files, in a folder with their subfolders; where two are alike (a.jpg
    and a.png), the second gets a number.

    Args:
        inputs: files, folders, patterns such as "*.jpg", or the number of a camera.
        recursive: take the images in subfolders, too.
        exclude: a folder that is left out: that of the outputs.

    Raises:
        FileNotFoundError: a path does not exist, or nothing matches a pattern.
        ValueError: a folder has no images, or there are no inputs.
    """
    left_out = os.path.abspath(exclude) if exclude else ""
    names = Names()
    found = Inputs()
    for given in inputs:
        for path, name in _expand(os.fspath(given), recursive, left_out):
            found.entries.append((path, names.unique(name, is_folder=_is_video(path))))
    if not found.entries:
        raise ValueError("no inputs are given: name files, folders, patterns or a camera")
    return found


class Names:
    """Names of outputs, of which none would overwrite another."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()  # those that names have in front of them
        self._videos: set[str] = set()  # folders that belong to one video alone

    def unique(self, name: str, *, is_folder: bool = False) -> str:
        """The name, with a number behind it where it is taken.

        Args:
            name: a relative path without suffix.
            is_folder: it is a folder with a picture for each frame, and a file.

        Raises:
            ValueError: it leads out of the folder of the outputs.
        """
        wanted = inside("", name).as_posix()
        first, _, rest = wanted.partition("/")
        name, number = wanted, 1
        while self._is_taken(name, is_folder):
            number += 1
            in_video = first in self._videos and rest
            name = f"{first}_{number}/{rest}" if in_video else f"{wanted}_{number}"
        self._files.add(name)
        self._folders.update(parent.as_posix() for parent in Path(name).parents)
        if is_folder:
            self._videos.add(name)
        return name

    def _is_taken(self, name: str, is_folder: bool) -> bool:
        parents = {parent.as_posix() for parent in Path(name).parents}
        return (
            name in self._files
            or bool(parents & self._videos)
            or (is_folder and name in self._folders)
        )


def read_video(video: str | int, name: str) -> Iterator[Source]:
    """The frames of a video file or a camera, one after another.

    A video that does not decode is one source that raises when it is read.
    """
    what = f"camera {video}" if isinstance(video, int) else f"video {video}"
    capture = cv2.VideoCapture(video)
    try:
        count = -1
        if capture.isOpened():
            fps = capture.get(cv2.CAP_PROP_FPS)
            clip = Clip(name, fps if 0 < fps < 1000 else FPS)
            for count, frame in enumerate(_frames(capture)):
                picture = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                place = f"{name}/{count + 1:06d}"
                yield Source(place, f"{video}#{count + 1}", lambda p=picture: p, clip)  # type: ignore[misc]
        expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if count >= 0 else 0
        if count < 0:
            message = f"cannot read the {what}: OpenCV decodes no frame of it"
            yield Source(name, str(video), _raiser(message))
        elif not isinstance(video, int) and count + 1 < 0.9 * expected:
            logging.getLogger(__name__).warning(
                "the %s ends after %d of %d frames: is it cut off?", what, count + 1, expected
            )
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture) -> Iterator:
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


def _expand(given: str, recursive: bool, exclude: str) -> Iterator[tuple[str | int, str]]:
    """Paths and wanted names of one thing that a user named."""
    given = os.path.expanduser(given)
    if os.path.isdir(given):
        images = list(_images(given, recursive, exclude))
        if not images:
            more = "" if recursive else "; --recursive takes those in its subfolders, too"
            raise ValueError(
                f"the folder {given} has no images ({', '.join(s[1:] for s in IMAGES)}){more}"
            )
        for path in images:
            yield path, os.path.splitext(os.path.relpath(path, given))[0]
    elif os.path.exists(given):
        yield given, Path(given).stem
    elif given.isdecimal():
        yield int(given), f"camera_{given}"
    elif glob.has_magic(given):
        files = [p for p in sorted(glob.glob(given, recursive=True)) if os.path.isfile(p)]
        if not files:
            raise FileNotFoundError(f"no file matches {given}")
        for path in files:
            yield path, Path(path).stem
    else:
        raise FileNotFoundError(f"the input {given} does not exist")


def _images(folder: str, recursive: bool, exclude: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        kept = sorted(f for f in folders if not f.startswith("."))
        folders[:] = [f for f in kept if os.path.abspath(os.path.join(place, f)) != exclude]
        for name in sorted(files):
            if name.lower().endswith(IMAGES) and not name.startswith("."):
                yield os.path.join(place, name)
        if not recursive:
            return


def _is_video(path: str | int) -> bool:
    return isinstance(path, int) or path.lower().endswith(VIDEOS)


def _reader(path: str) -> Callable[[], Image.Image]:
    return lambda: read_rgb(path)


def _raiser(message: str) -> Callable[[], Image.Image]:
    def fail() -> Image.Image:
        raise UnreadableImageError(message)

    return fail
