"""The drawn scenes: the same bytes on every run, and forms that the official tools accept."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from coco_trees import Truth
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, SemSegEvaluator
from panopticapi.utils import rgb2id
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from srnet.data.datasets.scenes import CLASSES, NUM_THINGS, VOID, register_all_scenes
from srnet.data.prepare import coco_annotations
from srnet.data.prepare import scenes as prepare_scenes
from srnet.data.prepare.conversion import run_script

SIZE = (96, 128)
COUNTS = {"train": 5, "val": 4}


def arguments_of(output, counts):
    size = "x".join(map(str, SIZE))
    counts = [str(x) for split in counts for x in (f"--{split}", counts[split])]
    return ["--output", str(output), "--size", size, *counts]


def make(output, counts):
    """Make scenes: make(folder, {"train": n, "val": m})."""
    run_script(prepare_scenes, arguments_of(output, counts))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A DETECTRON2_DATASETS folder with few small scenes."""
    base = tmp_path_factory.mktemp("datasets")
    make(base / "scenes", COUNTS)
    return base


@pytest.fixture
def registered(scenes, datasets_forgotten):
    """Register the small scenes in place of those of DETECTRON2_DATASETS."""
    with datasets_forgotten("scenes_"):
        register_all_scenes(str(scenes))
        yield


@pytest.fixture
def registered_missing(tmp_path, datasets_forgotten):
    """Register the scenes of an empty folder."""
    with datasets_forgotten("scenes_"):
        register_all_scenes(str(tmp_path))
        yield


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_image_depends_on_its_number_alone(scenes, tmp_path):
    make(tmp_path / "again", {"train": 2, "val": 1})
    first, again = files_of(scenes / "scenes"), files_of(tmp_path / "again")
    pictures = [path for path in again if path.suffix in (".png", ".jpg")]
    assert len(pictures) == 3 * 4
    assert all(again[path] == first[path] for path in pictures)


def test_a_second_run_keeps_the_folder_and_other_arguments_remake_it(scenes, tmp_path, capsys):
    output, small = tmp_path / "scenes", {"train": 1, "val": 1}
    for counts, expected in ((small, "1 training"), (small, "up to date"), (COUNTS, "5 training")):
        make(output, counts)
        assert expected in capsys.readouterr().out
    assert files_of(output) == files_of(scenes / "scenes")
    assert [p.name for p in tmp_path.iterdir()] == ["scenes"]


def test_a_broken_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(prepare_scenes, "check", fail)
    with pytest.raises(SystemExit, match="no space left"):
        make(tmp_path / "scenes", {"train": 1, "val": 1})
    assert list(tmp_path.iterdir()) == []


def test_it_leaves_alone_what_it_did_not_make(root, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, str(root / "datasets" / "prepare_scenes.py")]
    command += arguments_of(tmp_path, COUNTS)
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert str(tmp_path) in result.stderr and "--output" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "mine.txt").exists()


def test_check_finds_a_label_that_contradicts(tmp_path):
    make(tmp_path / "scenes", {"train": 1, "val": 1})
    path = tmp_path / "scenes" / "labels" / "val" / "val_00000.png"
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[0, 0] = 1
    cv2.imwrite(str(path), label)
    with pytest.raises(ValueError, match="the semantic label"):
        prepare_scenes.check(tmp_path / "scenes", "val")


@pytest.mark.parametrize(
    "arguments, named",
    [(["--train", "0"], "'0'"), (["--size", "192"], "'192'"), (["--size", "32x256"], "'32x256'")],
)
def test_bad_arguments_are_named(arguments, named, capsys):
    with pytest.raises(SystemExit):
        run_script(prepare_scenes, arguments)
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("split", COUNTS)
def test_the_forms_agree(scenes, split):
    folder = scenes / "scenes"
    api = COCO(folder / "annotations" / f"instances_{split}.json")
    panoptic = json.loads((folder / "annotations" / f"panoptic_{split}.json").read_text())
    assert len(panoptic["images"]) == len(api.imgs) == COUNTS[split]
    assert [c["name"] for c in panoptic["categories"]] == [name for name, _, _ in CLASSES]
    for entry in panoptic["annotations"]:
        ids = rgb2id(cv2.imread(str(folder / f"panoptic_{split}" / entry["file_name"]))[..., ::-1])
        assert ids.shape == SIZE
        listed = {s["id"]: s for s in entry["segments_info"]}
        assert set(np.unique(ids)) - {0} == set(listed)
        label, target = np.full(SIZE, VOID), np.full(SIZE, VOID)
        for identity, segment in listed.items():
            mask, category = ids == identity, segment["category_id"]
            ys, xs = np.nonzero(mask)
            assert segment["area"] == len(ys)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert segment["bbox"] == box
            label[mask] = category - 1
            target[mask] = 0 if category <= NUM_THINGS else category - NUM_THINGS
        for kind, expected in (("labels/{}", label), ("panoptic_stuff_{}", target)):
            path = folder / kind.format(split) / entry["file_name"]
            assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), expected)
        # Every polygon, rasterized by pycocotools, is one of the things of the panoptic image.
        things = {
            (s["category_id"], (ids == s["id"]).tobytes())
            for s in entry["segments_info"]
            if s["category_id"] <= NUM_THINGS
        }
        annotations = api.loadAnns(api.getAnnIds(imgIds=entry["image_id"]))
        drawn = {(a["category_id"], api.annToMask(a).astype(bool).tobytes()) for a in annotations}
        assert drawn == things
        assert all(isinstance(a["segmentation"], list) for a in annotations)


def test_polygons_keep_holes_and_touching_corners():
    mask_to_polygons = coco_annotations.mask_to_polygons
    rng = np.random.default_rng(0)
    ring = np.ones((9, 12), bool)
    ring[2:7, 3:9] = False
    ring[4, 5] = True
    masks = [ring, np.indices((8, 8)).sum(0) % 2 == 0, np.ones((1, 1), bool)]
    masks += [rng.random((12, 17)) < share for share in (0.1, 0.5, 0.9)]
    for mask in masks:
        rles = mask_api.frPyObjects(mask_to_polygons(mask), *mask.shape)
        assert np.array_equal(mask_api.decode(mask_api.merge(rles)), mask)
    assert mask_to_polygons(np.zeros((4, 4), bool)) == []


def evaluate(evaluator, records, predict):
    evaluator.reset()
    for record in records:
        evaluator.process([record], [predict(record)])
    return evaluator.evaluate()


def one_hot(path, num_classes):
    label = cv2.imread(path, cv2.IMREAD_UNCHANGED).astype(np.int64)
    label[label == VOID] = 0
    return torch.eye(num_classes)[torch.from_numpy(label)].permute(2, 0, 1)


@pytest.mark.parametrize("name", ["scenes_sem_seg_val", "scenes_panoptic_val_stuffonly"])
def test_the_truth_scores_100_miou(registered, name):
    records, classes = DatasetCatalog.get(name), MetadataCatalog.get(name).stuff_classes
    results = evaluate(
        SemSegEvaluator(name, distributed=False),
        records,
        lambda record: {"sem_seg": one_hot(record["sem_seg_file_name"], len(classes))},
    )
    assert results["sem_seg"]["mIoU"] == 100


@pytest.mark.parametrize("name", ["scenes_instance_val", "scenes_panoptic_val_separated"])
def test_the_truth_scores_100_ap(registered, name):
    evaluator = COCOEvaluator(name, ("bbox", "segm"), distributed=False, use_fast_impl=False)
    results = evaluate(evaluator, DatasetCatalog.get(name), Truth(name).predict)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP"] == pytest.approx(100)


def test_the_truth_scores_100_pq(registered):
    name = "scenes_panoptic_val_separated"
    results = evaluate(COCOPanopticEvaluator(name), DatasetCatalog.get(name), Truth(name).predict)
    assert results["panoptic_seg"]["PQ"] == pytest.approx(100)


def test_detectron2s_mapper_makes_panoptic_training_data(registered):
    record = DatasetCatalog.get("scenes_panoptic_train_separated")[0]
    mapper = DatasetMapper(
        is_train=True, augmentations=[], image_format="BGR", use_instance_mask=True
    )
    sample = mapper(record)
    assert tuple(sample["image"].shape) == (3, *SIZE)
    assert sample["sem_seg"].shape == SIZE
    assert len(sample["instances"]) == len(record["annotations"]) > 0
    assert sample["instances"].gt_classes.max() < NUM_THINGS
    metadata = MetadataCatalog.get("scenes_panoptic_train_separated")
    assert set(sample["sem_seg"].unique().tolist()) <= {*range(len(metadata.stuff_classes)), VOID}


@pytest.mark.parametrize(
    "name",
    [
        "scenes_sem_seg_train",
        "scenes_instance_val",
        "scenes_panoptic_train_separated",
        "scenes_panoptic_val_stuffonly",
    ],
)
def test_missing_scenes_say_how_they_are_made(registered_missing, tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        DatasetCatalog.get(name)
    assert str(tmp_path / "scenes") in str(error.value)
    assert "srnet prepare scenes" in str(error.value)
