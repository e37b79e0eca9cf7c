"""Make the labels of ADE20K's 150 classes.

DIR is the unzipped ADEChallengeData2016, whose labels are 0 for void and 1 to 150. Labels in
Detectron2's form, 0 to 149 and 255 for void, are written into its annotations_detectron2/. A second
run keeps what is there and checks everything again. datasets/README.md says what to download.
"""

import argparse
from pathlib import Path

import numpy as np

from srnet.data.datasets.ade20k import FOLDER, NUM_CLASSES, SPLITS, VOID
from srnet.data.datasets.root import datasets_root
from srnet.data.datasets.semantic_folders import list_files
from srnet.data.paths import inside
from srnet.data.prepare.conversion import Conversion, add_run_arguments, check_count, run
from srnet.data.read import read_label


def shift(path: Path) -> np.ndarray:
    """Read a label of the release and move void from 0 to the end: (H, W) of uint8."""
    label = read_label(str(path), NUM_CLASSES + 1, 0)
    return (label - 1).astype(np.uint8)  # 0 becomes 255


def find(root: Path, folder: str) -> list[Conversion]:
    """List the images of a split with the release's labels and those to write.

    Raises:
        FileNotFoundError: a folder or a label is missing.
    """
    images, labels = root / "images" / folder, root / "annotations" / folder
    for path in (images, labels):
        if not path.is_dir():
            raise FileNotFoundError(f"the folder {path} is missing: unzip ADEChallengeData2016.zip")
    items = [
        Conversion(
            image,
            inside(labels, f"{image.stem}.png"),
            inside(root / "annotations_detectron2" / folder, f"{image.stem}.png"),
        )
        for image in (images / name for name in list_files(images, ".jpg"))
    ]
    missing = [item.source for item in items if not item.source.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(items)} labels are missing, the first is {missing[0]}"
        )
    return items


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`prepare`."""
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=Path,
        help=f"has images/ and annotations/ (default: $DETECTRON2_DATASETS/{FOLDER})",
    )
    add_run_arguments(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Make and check the labels, and print what there is."""
    root = arguments.folder or Path(datasets_root()) / FOLDER
    for split, (folder, count) in SPLITS.items():
        items = find(root, folder)
        check_count(str(root / "images" / folder), len(items), count, arguments.partial)
        run(split, items, shift, num_classes=NUM_CLASSES, void=VOID, workers=arguments.workers)
