"""Make the training labels of Cityscapes.

DIR has leftImg8bit/ and gtFine/ as unzipped. Beside each *_gtFine_polygons.json of train and val a
*_gtFine_labelTrainIds.png is written, drawn by cityscapesscripts. A second run keeps what is there
and checks everything again. datasets/README.md says what to download.
"""

import argparse
from pathlib import Path

import numpy as np

from srnet.data.datasets.cityscapes import CITIES, IMAGE_SUFFIX, IMAGES, TRAIN_ID_SUFFIX, VOID
from srnet.data.datasets.root import datasets_root
from srnet.data.paths import inside
from srnet.data.prepare.conversion import Conversion, add_run_arguments, check_count, run
from srnet.extras import require_extra

NUM_CLASSES = 19
POLYGONS_SUFFIX = "_gtFine_polygons.json"


def draw(polygons: Path) -> np.ndarray:
    """Draw the polygons of an image with cityscapesscripts: train ids, (H, W).

    Raises:
        ModuleNotFoundError: cityscapesscripts is not installed.
        ValueError: the file is no annotation; the message names it.
    """
    require_extra("cityscapesscripts", "drawing the labels of Cityscapes")
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    annotation = Annotation()
    try:
        annotation.fromJsonFile(str(polygons))
        return np.array(createLabelImage(annotation, "trainIds"))
    except SystemExit as error:  # how cityscapesscripts reports an error
        raise ValueError(f"cityscapesscripts refuses the polygons of {polygons}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{polygons} is not a Cityscapes annotation: {error!r}") from error


def find(root: Path, split: str) -> list[Conversion]:
    """List the images of a labelled split with their polygons and the labels to write.

    Raises:
        FileNotFoundError: a folder, or the polygons of an image, are missing.
    """
    images = find_images(root, split)
    items = []
    for image in images:
        name = image.name.removesuffix(IMAGE_SUFFIX)
        folder = root / "gtFine" / split / image.parent.name
        items.append(
            Conversion(
                image,
                inside(folder, name + POLYGONS_SUFFIX),
                inside(folder, name + TRAIN_ID_SUFFIX),
            )
        )
    missing = [item.source for item in items if not item.source.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(items)} annotations are missing, the first is {missing[0]}: "
            "unzip gtFine_trainvaltest.zip"
        )
    return items


def find_images(root: Path, split: str) -> list[Path]:
    """List the images of a split.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    folder = root / "leftImg8bit" / split
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the folder {folder} is missing: unzip leftImg8bit_trainvaltest.zip"
        )
    return sorted(p for p in folder.glob(f"*/*{IMAGE_SUFFIX}") if not p.name.startswith("."))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`prepare`."""
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=Path,
        help="has leftImg8bit/ and gtFine/ (default: $DETECTRON2_DATASETS/cityscapes)",
    )
    add_run_arguments(parser)


def prepare(arguments: argparse.Namespace) -> None:
    """Make and check the labels, and print what there is."""
    root = arguments.folder or Path(datasets_root()) / "cityscapes"
    for split in ("train", "val", "test"):
        if arguments.partial and not (root / "leftImg8bit" / split).is_dir():
            print(f"{split}: not there")
            continue
        images = find_images(root, split)
        folder = root / "leftImg8bit" / split
        missing = sorted(set(CITIES[split]) - {image.parent.name for image in images})
        if missing and not arguments.partial:
            raise FileNotFoundError(
                f"{folder} has no images of {', '.join(missing)}; --partial takes what there is"
            )
        check_count(str(folder), len(images), IMAGES[split], arguments.partial)
        if split == "test":
            print(f"test: {len(images)} images, whose labels are not public")
            continue
        items = find(root, split)
        run(split, items, draw, num_classes=NUM_CLASSES, void=VOID, workers=arguments.workers)
