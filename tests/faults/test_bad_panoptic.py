"""A panoptic data set, changed in every way: it gives the right PQ, or is refused.

The panoptic JSON file and its PNG images are changed, and the labels of the stuff branch.
"""

import contextlib
import io
import json
import os

import numpy as np
import pytest
from bad_inputs import (
    Error,
    all_changes,
    attempt,
    file_changes,
    two_changes,
)
from coco_trees import Truth
from detectron2.data import DatasetCatalog
from hypothesis import HealthCheck, given, settings
from panopticapi.utils import id2rgb
from PIL import Image
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.data.datasets.panoptic_folders import register_instances_and_panoptic
from srnet.data.records import load_records
from srnet.evaluation import build_evaluator

pytestmark = pytest.mark.fault("strangers: panoptic data")
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
HEIGHT, WIDTH = 24, 32
CLASSES = [("sky", (1, 2, 3), False), ("car", (9, 2, 3), True), ("road", (5, 5, 5), False)]
CLASSES.append(("man", (70, 2, 3), True))
SKY, CAR, ROAD, MAN = 1, 2, 3, 4
NAME = "bad_panoptic_val_separated"


def content():
    images = [{"id": 7 + i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in range(2)]
    segments = [
        {"id": 5, "category_id": SKY, "iscrowd": 0, "area": 192, "bbox": [0, 0, 32, 6]},
        {"id": 65538, "category_id": CAR, "iscrowd": 0, "area": 48, "bbox": [4, 8, 8, 6]},
        {"id": 9, "category_id": ROAD, "iscrowd": 0, "area": 32, "bbox": [0, 20, 32, 1]},
    ]
    annotations = [
        {"image_id": 7 + i, "file_name": f"{i}.png", "segments_info": [dict(s) for s in segments]}
        for i in range(2)
    ]
    categories = [
        {"id": i, "name": name, "isthing": int(isthing)}
        for i, (name, _, isthing) in enumerate(CLASSES, 1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def segment_ids():
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    ids[:6], ids[8:14, 4:12], ids[20:21] = 5, 65538, 9
    return ids


def instances():
    box = [4, 8, 8, 6]
    ring = [[4, 8, 12, 8, 12, 14, 4, 14]]
    shared = {"category_id": CAR, "bbox": box, "area": 48, "iscrowd": 0, "segmentation": ring}
    return {
        "images": content()["images"],
        "annotations": [{"id": 1 + i, "image_id": 7 + i, **shared} for i in range(2)],
        "categories": [c for c in content()["categories"] if c["isthing"]],
    }


class Folder:
    """A registered data set of two images, of which files are written anew for each change."""

    def __init__(self, folder):
        self.folder, self.output = folder, folder.parent / "output"
        for name in ("images", "annotations", "panoptic_val", "stuff"):
            (folder / name).mkdir(parents=True)
        self.json = folder / "annotations" / "panoptic_val.json"
        self.png = folder / "panoptic_val" / "0.png"
        self.label = folder / "stuff" / "0.png"
        (folder / "annotations" / "instances_val.json").write_text(json.dumps(instances()))
        colors = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
        ids = segment_ids()
        label = np.select([ids == 5, ids == 9, ids == 65538], [1, 2, 0], 255).astype(np.uint8)
        for i in range(2):
            Image.fromarray(colors[i]).save(folder / "images" / f"{i}.png")
            Image.fromarray(id2rgb(ids)).save(folder / "panoptic_val" / f"{i}.png")
            Image.fromarray(label).save(folder / "stuff" / f"{i}.png")
        places = (str(folder / "images"), str(folder), str(folder / "stuff"))
        register_instances_and_panoptic("bad", "val", CLASSES, *places, "srnet prepare bad")
        options = {
            "MODEL.META_ARCHITECTURE": "PanopticFPN",
            "MODEL.MASK_ON": True,
            "MODEL.ROI_HEADS.NUM_CLASSES": 2,
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
            "DATASETS.TRAIN": (NAME,),
            "DATALOADER.NUM_WORKERS": 0,
            "SOLVER.IMS_PER_BATCH": 2,
            "INPUT.MIN_SIZE_TRAIN": (HEIGHT,),
            "INPUT.RANDOM_FLIP": "none",
        }
        self.cfg = get_cfg(opts=[word for item in options.items() for word in item])

    def use(self, made=None):
        """Write the file, train on it and evaluate with it."""
        made = content() if made is None else made
        self.json.write_bytes(made if isinstance(made, bytes) else json.dumps(made).encode())
        return attempt(self.train_and_evaluate, self.folder, str(self.folder))

    def train_and_evaluate(self):
        with contextlib.redirect_stdout(io.StringIO()):
            next(iter(build_train_loader(self.cfg, build_mapper(self.cfg, is_train=True))))
            records = load_records(self.cfg, [NAME], is_train=False)
            mapper = build_mapper(self.cfg, is_train=True)
            for record in records:
                labels = set(np.unique(mapper(record)["sem_seg"]).tolist())
                assert labels <= {0, 1, 2, 255}
            evaluator = build_evaluator(self.cfg, NAME, str(self.output))
            evaluator.reset()
            evaluator.process(records, Truth(NAME)(records))
            results = evaluator.evaluate()
        assert results["panoptic_seg"]["PQ"] == pytest.approx(100), results
        return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory, datasets_forgotten):
    with datasets_forgotten("bad_"):
        yield Folder(tmp_path_factory.mktemp("panoptic") / "data")


def test_the_right_files_are_read(folder):
    assert folder.use()["sem_seg"]["mIoU"] == pytest.approx(100)


CHANGED = dict(all_changes(content()))


@pytest.mark.parametrize("name", CHANGED)
def test_one_change(folder, tried, name):
    tried(f"panoptic: {name}")
    folder.use(CHANGED[name])


@pytest.mark.parametrize("key", ["iscrowd", "area", "bbox"])
def test_what_is_not_needed_may_be_missing(folder, tried, key):
    tried(f"panoptic: every {key} removed")
    made = content()
    for annotation in made["annotations"]:
        for segment in annotation["segments_info"]:
            del segment[key]
    assert folder.use(made)["panoptic_seg"]["PQ"] == pytest.approx(100)


@settings(
    max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(two_changes(content))
def test_two_changes(folder, tried, change):
    name, made = change
    tried(f"panoptic: {name}")
    folder.use(made)


@pytest.mark.parametrize("name", file_changes(b""))
def test_what_may_become_of_the_file(folder, tried, name):
    tried(f"panoptic: the file is {name}")
    found = folder.use(file_changes(json.dumps(content()).encode())[name])
    assert isinstance(found, Error) and str(folder.json) in found


def _rgb(ids):
    return Image.fromarray(id2rgb(ids))


PICTURES = {
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "of half the size": lambda path: Image.open(path).resize((16, 12), 0).save(path),
    "turned": lambda path: Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path),
    "grey": lambda path: Image.open(path).convert("L").save(path),
    "of a palette": lambda path: Image.open(path).convert("P").save(path),
    "of 16 bits": lambda path: Image.fromarray(np.ones((24, 32), np.uint16)).save(path),
    "of one value": lambda path: _rgb(np.full((24, 32), 5)).save(path),
    "empty of segments": lambda path: _rgb(np.zeros((24, 32), int)).save(path),
    "with another segment": lambda path: _rgb(segment_ids() + 1).save(path),
    "another image's": lambda path: Image.new("RGB", (50, 40), (9, 8, 7)).save(path),
    "a JPEG": lambda path: Image.open(path).save(path, "JPEG"),
}
LABELS = {
    "missing": PICTURES["missing"],
    "a folder": PICTURES["a folder"],
    "of half the size": PICTURES["of half the size"],
    "turned": PICTURES["turned"],
    "in colours": lambda path: Image.open(path).convert("RGB").save(path),
    "of 16 bits": lambda path: Image.fromarray(np.full((24, 32), 700, np.uint16)).save(path),
    "with a class too many": lambda path: Image.new("L", (32, 24), 3).save(path),
    "with raw ids": lambda path: Image.new("L", (32, 24), 200).save(path),
}


@pytest.fixture
def fresh(tmp_path, datasets_forgotten):
    with datasets_forgotten("bad_"):
        yield Folder(tmp_path / "data")


@pytest.mark.parametrize("name", PICTURES)
def test_a_wrong_picture(fresh, tried, name):
    tried(f"panoptic: a PNG is {name}")
    PICTURES[name](fresh.png)
    found = fresh.use()
    assert isinstance(found, Error) and str(fresh.png) in found


@pytest.mark.parametrize("name", LABELS)
def test_a_wrong_label(fresh, tried, name):
    tried(f"panoptic: a label of the stuff branch is {name}")
    LABELS[name](fresh.label)
    found = fresh.use()
    assert isinstance(found, Error) and str(fresh.label) in found


@pytest.mark.parametrize("name", file_changes(b""))
@pytest.mark.parametrize("what", ["png", "label"])
def test_what_may_become_of_pictures(fresh, tried, what, name):
    tried(f"panoptic: the {what} is {name}")
    path = getattr(fresh, what)
    path.write_bytes(file_changes(path.read_bytes())[name])
    found = fresh.use()
    if name not in ("twice", "without its last byte"):  # a PNG ends before its last byte
        assert isinstance(found, Error)
    assert not isinstance(found, Error) or str(path) in found


def test_hidden_files_of_macos_are_no_images(fresh, tried):
    tried("panoptic: hidden files beside images and labels")
    for place in ("images", "panoptic_val", "stuff"):
        (fresh.folder / place / "._0.png").write_bytes(b"\0\5\26\7")
    assert fresh.use()["panoptic_seg"]["PQ"] == pytest.approx(100)


def test_two_images_with_one_label(fresh, tried):
    tried("panoptic: an image a second time with another suffix")
    image = fresh.folder / "images" / "0.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    assert str(image.with_suffix(".jpg")) in fresh.use()


def test_the_catalog_has_the_same_records(fresh):
    """Detectron2's own evaluators read them there; the images are PNG files."""
    fresh.use()
    assert DatasetCatalog.get(NAME) == load_records(fresh.cfg, [NAME], is_train=False)
