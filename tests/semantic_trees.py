"""Small Cityscapes, ADE20K and Pascal Context trees in the released formats, and fixtures of them.

Cityscapes' label images are drawn by cityscapesscripts from polygons, as the release's were.
"""

import importlib
import io
import json
from contextlib import redirect_stdout
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import name2label
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from scipy.io import savemat
from srnet.data.datasets.cityscapes import CITIES
from srnet.data.datasets.pascal_context import CLASSES
from srnet.data.prepare.conversion import run_script

WIDTH, HEIGHT = 128, 64


def street(rng):
    """Polygons of a street scene; the first is drawn first."""

    def box(label, x0, y0, x1, y1):
        return {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}

    car, person = (int(x) for x in rng.integers(0, WIDTH - 40, 2))
    return [
        box("sky", 0, 0, WIDTH, 20),
        box("building", 0, 16, WIDTH, 40),
        box("road", 0, 40, WIDTH, HEIGHT - 6),
        box("car", car, 36, car + 30, 54),
        box("person", person, 24, person + 10, 50),
        box("license plate", car, 50, car + 4, 52),
        box("ego vehicle", 0, HEIGHT - 6, WIDTH, HEIGHT),
    ]


def write_cityscapes(root, cities=CITIES):
    """Write `root/cityscapes` as it is after unzipping, one image a city, without train ids."""
    rng = np.random.default_rng(0)
    for split, names in cities.items():
        for city in names:
            stem = f"{city}_000000_000019"
            images = root / "cityscapes/leftImg8bit" / split / city
            labels = root / "cityscapes/gtFine" / split / city
            images.mkdir(parents=True)
            objects = street(rng)
            image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            for item in objects:
                color = name2label[item["label"]].color[::-1]
                cv2.fillPoly(image, [np.array(item["polygon"])], color)
            image = np.clip(image + rng.integers(-20, 20, image.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(images / f"{stem}_leftImg8bit.png"), image)
            if split == "test":
                continue
            labels.mkdir(parents=True)
            polygons = labels / f"{stem}_gtFine_polygons.json"
            polygons.write_text(
                json.dumps({"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects})
            )
            json2labelImg(str(polygons), str(labels / f"{stem}_gtFine_labelIds.png"), "ids")
            # Not json2instanceImg, which hands Pillow 12 a mode that it no longer writes.
            annotation = Annotation()
            annotation.fromJsonFile(str(polygons))
            instances = np.array(createInstanceImage(annotation, "ids")).astype(np.uint16)
            cv2.imwrite(str(labels / f"{stem}_gtFine_instanceIds.png"), instances)


def blobs(rng, size, labels):
    """A label image (H, W) with a rectangle of each label over the first."""
    label = np.full(size, labels[0], np.int64)
    for value in labels[1:]:
        y, x = rng.integers(0, size[0] - 16), rng.integers(0, size[1] - 16)
        label[y : y + 16, x : x + 16] = value
    return label


def write_image(path, label, rng):
    """Write a JPEG whose colors follow the labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.stack([label * 37 % 256, label * 91 % 256, label * 53 % 256], axis=-1)
    image = np.clip(colors + rng.integers(-10, 10, colors.shape), 0, 255)
    cv2.imwrite(str(path), image.astype(np.uint8))


def write_ade20k(root):
    """Write `root/ADEChallengeData2016` as it is after unzipping: labels 0 for void, and to 150."""
    rng = np.random.default_rng(1)
    base = root / "ADEChallengeData2016"
    for split, name, count in (("training", "train", 6), ("validation", "val", 3)):
        (base / "annotations" / split).mkdir(parents=True)
        for i in range(count):
            stem = f"ADE_{name}_{i + 1:08d}"
            label = blobs(rng, (70, 90 + i), [3, 0, 1, 150])
            write_image(base / "images" / split / f"{stem}.jpg", label, rng)
            path = base / "annotations" / split / f"{stem}.png"
            cv2.imwrite(str(path), label.astype(np.uint8))


def write_pascal_context(folder):
    """Write `VOC2010` and the `.mat` labels of 459 classes; return both folders."""
    rng = np.random.default_rng(2)
    voc, labels = folder / "VOC2010", folder / "trainval"
    (voc / "ImageSets/Main").mkdir(parents=True)
    labels.mkdir()
    for split, count in (("train", 6), ("val", 3)):
        names = [f"2008_{split}{i}" for i in range(count)]
        (voc / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            label = blobs(rng, (60, 80), [360, 1, 2, 59, 458, 459, 0])
            write_image(voc / "JPEGImages" / f"{name}.jpg", label, rng)
            savemat(labels / f"{name}.mat", {"LabelMap": label.astype(np.uint16)})
    lines = {1: "accordion", 3: "air conditioner"} | {i: n for n, i in CLASSES}
    (folder / "labels.txt").write_text("".join(f"{i}: {n}\n" for i, n in sorted(lines.items())))
    return voc, labels


@pytest.fixture(scope="session")
def prepare_script():
    """Run a preparation in this process: prepare_script("cityscapes", *arguments)."""

    def run(name, *arguments, check=True):
        output, error = io.StringIO(), ""
        with redirect_stdout(output):
            try:
                module = importlib.import_module(f"srnet.data.prepare.{name}")
                run_script(module, [str(a) for a in arguments])
            except SystemExit as exit_:
                error = str(exit_)
        assert not (check and error), error
        return SimpleNamespace(stdout=output.getvalue(), stderr=error, returncode=int(bool(error)))

    return run


@pytest.fixture(scope="session")
def small_semantic(tmp_path_factory, prepare_script):
    """A DETECTRON2_DATASETS folder with prepared Cityscapes, ADE20K and Pascal Context trees."""
    base = tmp_path_factory.mktemp("semantic")
    write_cityscapes(base)
    write_ade20k(base)
    voc, labels = write_pascal_context(base)
    options = ("--partial", "--workers", 1)
    prepare_script("cityscapes", base / "cityscapes", *options)
    prepare_script("ade20k", base / "ADEChallengeData2016", *options)
    prepare_script("pascal_context", voc, labels, "--output", base / "pascal_context", *options)
    return base
