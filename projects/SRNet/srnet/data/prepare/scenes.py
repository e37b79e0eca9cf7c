"""Draw the street scenes of `make demo`, with semantic, instance and panoptic truth.

Nothing is downloaded, and every run draws the same images. Written into DIR are

    images/{train,val}/NAME.jpg
    labels/{train,val}/NAME.png           semantic labels of all classes, 255 for void
    annotations/instances_{train,val}.json  COCO instances, polygons
    annotations/panoptic_{train,val}.json   COCO panoptic, with
    panoptic_{train,val}/NAME.png           ids R + 256 G + 256^2 B
    panoptic_stuff_{train,val}/NAME.png   the semantic targets of Panoptic FPN: 0 for things, 1 and
                                          on for stuff, 255 for void

The folder appears when all is written and checked. A second run with the same arguments keeps it.
"""

import argparse
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_api

from srnet.data.datasets.root import datasets_root
from srnet.data.datasets.scenes import CLASSES, NUM_THINGS, SPLITS, VOID
from srnet.data.paths import written_to
from srnet.data.prepare.conversion import replacing_folder
from srnet.data.prepare.scenes_street import STUFF, THINGS, draw_scene

from . import coco_annotations as coco

STAMP = "stamp.json"
NAMES = [name for name, _, _ in CLASSES]
IS_THING = [isthing for _, _, isthing in CLASSES]
THING_IDS = range(1, NUM_THINGS + 1)
assert tuple(NAMES) == THINGS + STUFF


def draw(root: Path, split: str, size: tuple[int, int], index: int) -> tuple[str, list, list]:
    """Draw and write one image of a split; return its name and annotations (`coco.annotate`)."""
    cv2.setNumThreads(1)
    scene = draw_scene(np.random.default_rng([SPLITS.index(split), index]), *size)
    name = f"{split}_{index:05d}"
    classes = [NAMES.index(segment) for segment in scene.segments]
    labels = np.array([VOID, *classes], np.uint8)[scene.segment_ids]
    ids = np.array([0] + [coco.panoptic_id(i + 1) for i in range(len(classes))])[scene.segment_ids]
    for folder, image in (
        (f"labels/{split}", labels),
        (f"panoptic_{split}", coco.id_to_color(ids)[..., ::-1]),
        (f"panoptic_stuff_{split}", coco.stuff_targets(labels, IS_THING, VOID)),
    ):
        write_image(root / folder / f"{name}.png", image)
    write_image(root / "images" / split / f"{name}.jpg", scene.image[..., ::-1])
    return name, *coco.annotate(scene.segment_ids, [c + 1 for c in classes], THING_IDS)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a BGR or grey image.

    Raises:
        OSError: it cannot be written.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    with written_to(path):
        path.write_bytes(cv2.imencode(path.suffix, image, quality)[1].tobytes())


def write_split(root: Path, split: str, count: int, size: tuple[int, int]) -> dict[str, int]:
    """Draw a split and write its annotations; return the number of segments of each class."""
    for folder in ("images", "labels"):
        (root / folder / split).mkdir(parents=True)
    for folder in ("panoptic", "panoptic_stuff"):
        (root / f"{folder}_{split}").mkdir()
    images, annotations = [], []
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        drawn = pool.map(partial(draw, root, split, size), range(count), chunksize=4)
        for drawn_count, (name, things, segments) in enumerate(drawn, start=1):
            images.append({"file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
            annotations.append((f"{name}.png", things, segments))
            if drawn_count % 40 == 0 or drawn_count == count:
                print(f"{split}: {drawn_count} of {count} images drawn", flush=True)
    (root / "annotations").mkdir(exist_ok=True)
    instances, panoptic = coco.coco_files(images, annotations, CLASSES)
    for kind, content in (("instances", instances), ("panoptic", panoptic)):
        path = root / "annotations" / f"{kind}_{split}.json"
        with written_to(path):
            path.write_text(json.dumps(content))
    found = [s["category_id"] for *_, segments in annotations for s in segments]
    return {name: found.count(i + 1) for i, name in enumerate(NAMES)}


def check(root: Path, split: str) -> None:
    """Read a split again and compare its forms with each other.

    Raises:
        ValueError: they contradict each other; the message names the file.
    """
    content = json.loads((root / "annotations" / f"panoptic_{split}.json").read_text())
    instances = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
    things_of: dict[int, list[dict]] = {}
    for annotation in instances["annotations"]:
        things_of.setdefault(annotation["image_id"], []).append(annotation)
    for image, panoptic in zip(content["images"], content["annotations"], strict=True):
        name, size = panoptic["file_name"], (image["height"], image["width"])
        picture = cv2.imread(str(root / "images" / split / image["file_name"]))
        colors = cv2.imread(str(root / f"panoptic_{split}" / name))
        labels = cv2.imread(str(root / "labels" / split / name), cv2.IMREAD_UNCHANGED)
        targets = cv2.imread(str(root / f"panoptic_stuff_{split}" / name), cv2.IMREAD_UNCHANGED)
        for read in (picture, colors, labels, targets):
            _expect(read is not None and read.shape[:2] == size, split, name, "an image's size")
        ids, expected = coco.color_to_id(colors[..., ::-1]), np.full(size, VOID, np.uint8)
        things = iter(things_of.get(image["id"], ()))
        for segment in panoptic["segments_info"]:
            mask = ids == segment["id"]
            _expect(int(mask.sum()) == segment["area"], split, name, "a segment's area")
            expected[mask] = segment["category_id"] - 1
            if segment["category_id"] <= NUM_THINGS:
                rles = mask_api.frPyObjects(next(things)["segmentation"], *size)
                drawn = mask_api.decode(mask_api.merge(rles)).astype(bool)
                _expect(np.array_equal(drawn, mask), split, name, "a polygon")
        _expect(next(things, None) is None, split, name, "the number of things")
        _expect(np.array_equal(labels, expected), split, name, "the semantic label")
        _expect(
            np.array_equal(targets, coco.stuff_targets(expected, IS_THING, VOID)),
            split,
            name,
            "the stuff target",
        )


def _expect(holds: bool, split: str, name: str, what: str) -> None:
    if not holds:
        raise ValueError(f"{split}/{name}: {what} contradicts the panoptic annotation")


def fingerprint(arguments: argparse.Namespace) -> dict:
    """What decides the content of the folder: the arguments and the code that draws."""
    here = Path(__file__).resolve().parent
    code = hashlib.sha256(repr(CLASSES).encode())
    for path in (Path(__file__), here / "coco_annotations.py", *sorted(here.glob("scenes_*.py"))):
        code.update(path.read_bytes())
    counts = {split: getattr(arguments, split) for split in SPLITS}
    return {**counts, "size": list(arguments.size), "code": code.hexdigest()}


def is_made(output: Path, wanted: dict) -> bool:
    """Whether the folder was made with the same parameters.

    Raises:
        FileExistsError: it holds something that this script did not make.
    """
    if not output.exists() or not any(output.iterdir()):
        return False
    if not (output / STAMP).is_file():
        raise FileExistsError(
            f"{output} exists, and this script did not make it (it has no {STAMP}): remove it, or "
            "choose another place with --output"
        )
    return json.loads((output / STAMP).read_text()) == wanted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`prepare`."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(datasets_root()) / "scenes",
        metavar="DIR",
        help="the dataset's folder (default: $DETECTRON2_DATASETS/scenes)",
    )
    for split, count, what in (("train", 200, "training"), ("val", 40, "validation")):
        parser.add_argument(
            f"--{split}",
            type=positive,
            default=count,
            metavar="N",
            help=f"number of {what} images (default: %(default)s)",
        )
    parser.add_argument(
        "--size",
        type=image_size,
        default=(192, 256),
        metavar="HxW",
        help="height and width of the images in pixels (default: 192x256)",
    )


def prepare(arguments: argparse.Namespace) -> None:
    """Make the dataset unless it is there."""
    output, wanted = arguments.output.resolve(), fingerprint(arguments)
    if is_made(output, wanted):
        print(f"{output} is up to date")
        return
    with replacing_folder(output) as folder:
        for split in SPLITS:
            counts = write_split(folder, split, wanted[split], arguments.size)
            check(folder, split)
            print(f"{split}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
        (folder / STAMP).write_text(json.dumps(wanted))
    print(f"{output} holds {wanted['train']} training and {wanted['val']} validation scenes")


def image_size(text: str) -> tuple[int, int]:
    """Parse HxW."""
    height, x, width = text.partition("x")
    if not (x and height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW with both at least 64, as 192x256")
    return int(height), int(width)


def positive(text: str) -> int:
    """Parse a number of images."""
    if not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
