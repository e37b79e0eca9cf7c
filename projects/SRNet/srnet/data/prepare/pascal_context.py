"""Prepare Pascal Context with 59 classes.

VOC2010 has the images and the split. LABELS has the release's .mat files of 459 classes, or .png
files of 59 classes that were made from them. Written are {train,val}/NAME.jpg and
{train,val}annot/NAME.png, labels of one channel with classes 0 to 58 and 255 for void. A second run
keeps what is there and checks everything again. datasets/README.md says what to download.
"""

import argparse
import math
import re
from functools import partial
from pathlib import Path

import numpy as np

from srnet.data.datasets.pascal_context import CLASSES, FOLDER, IMAGES, VOID
from srnet.data.datasets.root import datasets_root
from srnet.data.paths import check_regular, inside
from srnet.data.prepare.conversion import (
    Conversion,
    add_link_argument,
    add_run_arguments,
    check_count,
    copy_image,
    run,
)
from srnet.data.read import MAX_PIXELS, read_label
from srnet.extras import require_extra

# Names in the release's 59_labels.txt -> those in its list of 459.
ALIASES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


def read_mat(path: Path) -> np.ndarray:
    """Read a label of 459 classes and keep the 59: (H, W) of uint8.

    Raises:
        ModuleNotFoundError: SciPy is not installed.
        ValueError: it is no such file; the message names it.
    """
    require_extra("scipy", f"reading {path}")
    from scipy.io import loadmat, whosmat

    check_regular(path)
    try:
        sizes = {name: shape for name, shape, _ in whosmat(path)}
        if math.prod(sizes["LabelMap"]) > MAX_PIXELS:
            raise ValueError(f"it claims to have {sizes['LabelMap']} pixels")
        label = loadmat(path, variable_names=["LabelMap"])["LabelMap"].astype(np.int64)
    except Exception as error:  # SciPy has no one error for a damaged file
        raise ValueError(f"{path} holds no LabelMap of Pascal Context: {error!r}") from error
    if label.ndim != 2 or label.min() < 0 or label.max() > 459:
        raise ValueError(f"{path} has labels beyond 0 to 459, or more than one channel")
    table = np.full(460, VOID, np.uint8)
    for index, (_, release) in enumerate(CLASSES):
        table[release] = index
    return table[label]


def read_png(path: Path, table: np.ndarray) -> np.ndarray:
    """Read a label of 59 classes, 0 for void, through a table: (H, W) of uint8."""
    return table[read_label(str(path), len(CLASSES) + 1, 0)]


def table_of(names: Path | None) -> np.ndarray:
    """A table from labels 0 to 59 to ours, in the order of a file of `LABEL: NAME` lines.

    Without a file, the order of mmsegmentation, which is ours.

    Raises:
        ValueError: the file does not name the 59 classes.
    """
    table = np.arange(len(CLASSES) + 1) - 1
    if names is not None:
        lines = re.findall(r"^\s*(\d+)\s*:\s*(.+?)\s*$", names.read_text(), re.MULTILINE)
        found = {ALIASES.get(n.replace(" ", ""), n.replace(" ", "")): int(i) for i, n in lines}
        known = [name for name, _ in CLASSES]
        missing = sorted(set(known) - set(found))
        if missing or sorted(found[name] for name in known) != list(range(1, len(known) + 1)):
            raise ValueError(
                f"{names} must give the labels 1 to {len(known)} to the 59 classes"
                + (f"; it lacks {', '.join(missing)}" if missing else "")
            )
        for index, name in enumerate(known):
            table[found[name]] = index
    table[0] = VOID
    return table.astype(np.uint8)


def check_release(names: Path) -> None:
    """Compare the `labels.txt` of the release with the labels assumed here.

    Raises:
        ValueError: a class has another label there.
    """
    found = dict(re.findall(r"^\s*(\d+)\s*:\s*(.+?)\s*$", names.read_text(), re.MULTILINE))
    for name, label in CLASSES:
        if found.get(str(label), "").replace(" ", "") != name:
            raise ValueError(
                f"{names} calls the label {label} {found.get(str(label))!r}, not {name!r}"
            )


def find(
    voc: Path, labels: Path, output: Path, split: str, part: bool
) -> list[tuple[Path, Path, Path, Path]]:
    """List the images of a split: the image, its label, and where both go.

    Args:
        voc: the folder with `JPEGImages/` and `ImageSets/Main/`.
        labels: the folder of `.mat` or `.png` labels.
        output: the folder of the dataset.
        split: "train" or "val".
        part: leave out images that are not there instead of refusing.

    Raises:
        FileNotFoundError: the split's list, an image or a label is missing.
        ValueError: a name of the list leads out of a folder.
    """
    listing = voc / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        raise FileNotFoundError(f"{listing} is missing: VOC2010 has the split")
    suffix = ".mat" if any(labels.glob("*.mat")) else ".png"
    found, missing = [], []
    for name in listing.read_text().split():
        # The list is a stranger's: the names become paths to read and to write.
        image = inside(voc / "JPEGImages", f"{name}.jpg", str(listing))
        label = inside(labels, f"{name}{suffix}", str(listing))
        absent = [path for path in (image, label) if not path.is_file()]
        missing += absent
        if not absent:
            annot = inside(output / f"{split}annot", f"{name}.png")
            found.append((image, label, inside(output / split, f"{name}.jpg"), annot))
    if missing and not part:
        raise FileNotFoundError(
            f"{len(missing)} files of the {split} split are missing, the first is {missing[0]}; "
            "--partial takes what there is"
        )
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`prepare`."""
    parser.add_argument(
        "voc", metavar="VOC2010", type=Path, help="has JPEGImages/ and ImageSets/Main/"
    )
    parser.add_argument(
        "labels", metavar="LABELS", type=Path, help="has NAME.mat or NAME.png for each image"
    )
    parser.add_argument(
        "--names",
        metavar="FILE",
        type=Path,
        help="the release's 59_labels.txt, for its own .png files; others are in the order of "
        "mmsegmentation",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help=f"the dataset's folder (default: $DETECTRON2_DATASETS/{FOLDER})",
    )
    add_link_argument(parser)
    add_run_arguments(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Make and check images and labels, and print what there is."""
    output = arguments.output or Path(datasets_root()) / FOLDER
    names = next(
        (p for p in (arguments.labels, arguments.labels.parent) if (p / "labels.txt").is_file()),
        None,
    )
    if names is not None:
        check_release(names / "labels.txt")
    for split, count in IMAGES.items():
        found = find(arguments.voc, arguments.labels, output, split, arguments.partial)
        check_count(f"the {split} split", len(found), count, arguments.partial)
        for image, _, copy, _ in found:
            copy_image(image, copy, arguments.link)
        items = [Conversion(copy, label, annot) for _, label, copy, annot in found]
        mat = bool(items) and items[0].source.suffix == ".mat"
        read = read_mat if mat else partial(read_png, table=table_of(arguments.names))
        run(split, items, read, num_classes=len(CLASSES), void=VOID, workers=arguments.workers)
