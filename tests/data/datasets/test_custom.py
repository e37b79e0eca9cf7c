"""`DATASETS.CUSTOM`: what its entries become, and what is said to wrong ones."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_data
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_api
from srnet import get_cfg
from srnet.data.mappers.semantic import SemanticSegmentationMapper
from srnet.data.records import load_dataset

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
MASK_RCNN = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
PANOPTIC = "quick_schedules/panoptic_fpn_R_18_SR.yaml"
BASES = {"semantic": CAMVID, "instances": MASK_RCNN, "panoptic": PANOPTIC}


@pytest.fixture(autouse=True)
def in_its_own_folder(datasets_forgotten, monkeypatch, tmp_path):
    """Derived files go to the test's folder, and its datasets are forgotten after it."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with datasets_forgotten("own_"):
        yield


def read(tmp_path, entries, base=CAMVID, **groups):
    return get_cfg(own_data.write_config(tmp_path / "own.yaml", base, entries, **groups))


def splits(kind, tmp_path, **arguments):
    found = [getattr(own_data, kind)(tmp_path / kind, s, **arguments) for s in ("train", "test")]
    return [entry for entry, _ in found]


def labels_of(name):
    """The labels of a dataset as the evaluator reads them."""
    from srnet.data.read import read_label

    metadata = MetadataCatalog.get(name)
    arguments = len(metadata.stuff_classes), metadata.ignore_label, metadata.get("label_mapping")
    return [read_label(r["sem_seg_file_name"], *arguments) for r in DatasetCatalog.get(name)]


@pytest.mark.parametrize("form", ["color", "palette", "index"])
def test_pixels_become_classes(tmp_path, form):
    entry, truth = own_data.semantic(tmp_path / "data", "train", form=form)
    cfg = read(tmp_path, [entry])
    assert all(map(np.array_equal, labels_of("own_train"), truth))
    mapper = SemanticSegmentationMapper(
        True, augmentations=[], image_format="RGB", num_classes=4, ignore_value=255
    )
    for record, label in zip(load_dataset("own_train"), truth, strict=True):
        mapped = mapper(record)
        assert np.array_equal(mapped["sem_seg"].numpy(), label)
        assert "label_mapping" not in mapped
    metadata = MetadataCatalog.get("own_train")
    assert metadata.stuff_classes == list(own_data.CLASSES)
    if form != "index":
        assert metadata.stuff_colors == [list(color) for color in own_data.COLORS]
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 4


@pytest.mark.parametrize(
    ("keys", "table"),
    [
        ({"IGNORED": [3, 255]}, {3: 255, 255: 255, 0: 0, 1: 1, 2: 2}),
        ({"IGNORED": 3}, {3: 255, 255: 3, 0: 0, 1: 1, 2: 2}),
        (
            {"LABEL_VALUES": [[0, 3], 2, 1], "IGNORED": 255},
            {0: 0, 3: 0, 2: 1, 1: 2, 255: 255},
        ),
        ({"LABEL_VALUES": [1, 2, 3], "IGNORED": "others"}, {1: 0, 2: 1, 3: 2, 0: 255, 255: 255}),
    ],
)
def test_values_are_mapped(tmp_path, keys, table):
    entry, truth = own_data.semantic(tmp_path / "data", "train", form="index")
    entry = {**entry, "CLASSES": ["a", "b", "c"], **keys}
    read(tmp_path, [entry])
    if keys == {"IGNORED": 3}:  # 255 is then no class
        with pytest.raises(ValueError, match=r"0\.png has the label 255 at x=0, y=0 \(288 pixels"):
            labels_of("own_train")
        return
    for found, label in zip(labels_of("own_train"), truth, strict=True):
        assert np.array_equal(found, np.vectorize(table.get)(label))


def test_a_split_a_suffix_and_folders_in_folders(tmp_path):
    folder = tmp_path / "data"
    for city, number in (("a", 0), ("a", 1), ("b", 0)):
        (folder / city).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(folder / city / f"{number}.png")
        Image.new("L", (8, 6), number).save(folder / city / f"{number}_mask.png")
    (tmp_path / "train.txt").write_text("a/1\nb/0.png\n")
    entry = {"NAME": "own_train", "KIND": "semantic", "IMAGES": "data", "LABELS": "data"}
    entry |= {"CLASSES": ["x", "y"], "LABEL_SUFFIX": "_mask.png"}
    read(tmp_path, [entry])
    assert [r["image_id"] for r in DatasetCatalog.get("own_train")] == ["a/0", "a/1", "b/0"]
    read(tmp_path, [{**entry, "SPLIT": "train.txt"}])  # registered anew
    assert [r["image_id"] for r in DatasetCatalog.get("own_train")] == ["a/1", "b/0"]
    (tmp_path / "train.txt").write_text("a/1\na/7\n")
    with pytest.raises(FileNotFoundError, match=r"train.txt has 'a/7', and no such image is in"):
        DatasetCatalog.get("own_train")


def test_counts_follow_the_data_unless_they_are_given(tmp_path):
    entries = splits("panoptic", tmp_path)
    cfg = read(tmp_path, entries, PANOPTIC)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (2, 3)
    assert cfg.DATASETS.CUSTOM[0]["THINGS"] == ["car", "sign"]
    given = {"MODEL": {"ROI_HEADS": {"NUM_CLASSES": 5}}}
    with pytest.raises(ValueError, match=r"ROI_HEADS.NUM_CLASSES is 5, and .* own_train needs 2"):
        read(tmp_path, entries, PANOPTIC, **given)
    with pytest.raises(ValueError, match=r"SEM_SEG_HEAD.NUM_CLASSES is 9, and .* needs 3"):
        get_cfg(
            own_data.write_config(tmp_path / "own.yaml", PANOPTIC, entries),
            ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 9],
        )


@pytest.mark.parametrize("kind", BASES)
def test_the_config_of_a_run_needs_no_data(tmp_path, kind):
    cfg = read(tmp_path, splits(kind, tmp_path), BASES[kind])
    (tmp_path / "run.yaml").write_text(cfg.dump())
    before = MetadataCatalog.get("own_test").as_dict()
    (tmp_path / kind).rename(tmp_path / "elsewhere")
    again = get_cfg(tmp_path / "run.yaml")
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    after = MetadataCatalog.get("own_test").as_dict()
    for key in ("thing_classes", "stuff_classes"):
        assert after.get(key) == before.get(key)
    with pytest.raises(FileNotFoundError, match="missing"):
        load_dataset("own_test")


def test_derived_labels_follow_a_changed_png(tmp_path):
    entry, truth = own_data.panoptic(tmp_path / "data", "train")
    read(tmp_path, [{**entry, "DERIVED": str(tmp_path / "derived")}], PANOPTIC)
    label = tmp_path / "derived" / "stuff" / "1.png"
    DatasetCatalog.get("own_train")
    made = label.stat().st_mtime_ns
    DatasetCatalog.get("own_train")
    assert label.stat().st_mtime_ns == made
    # The sky of image 1 becomes road.
    path = tmp_path / "data/panoptic/train/1.png"
    pixels = np.array(Image.open(path))
    ids = pixels.astype(int) @ (1, 256, 256**2)
    pixels[ids == 1000] = (2000 % 256, 2000 // 256, 0)
    Image.fromarray(pixels).save(path)
    content = json.loads((tmp_path / "data/train.json").read_text())
    info = content["annotations"][1]["segments_info"]
    info[1]["area"] += info.pop(0)["area"]
    (tmp_path / "data/train.json").write_text(json.dumps(content))
    DatasetCatalog.get("own_train")
    found = np.asarray(Image.open(label))
    assert np.array_equal(found == 2, (truth[1] == 0) | (truth[1] == 1))


def test_instances_of_the_users_own_are_kept(tmp_path):
    entry, _ = own_data.panoptic(tmp_path / "data", "train")
    _, content = own_data.instances(tmp_path / "more", "train", ids=(5, 9, 30))
    content["categories"] = [c for c in content["categories"] if c["id"] != 5]
    for image in content["images"]:
        image["id"] -= 60  # those of the panoptic truth
        image["file_name"] = f"{image['id'] - 40}.png"
    for annotation in content["annotations"]:
        annotation["image_id"] -= 60
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    read(tmp_path, [{**entry, "INSTANCES": str(path)}], PANOPTIC)
    records = load_dataset("own_train")
    boxes = [a["bbox"] for record in records for a in record["annotations"]]
    assert boxes == [a["bbox"] for a in content["annotations"]]
    assert not list((tmp_path / "cache").rglob("instances.json"))


@pytest.mark.data
def test_derived_instances_are_those_of_panopticapi(tmp_path, data_root):
    sample = data_root / "coco_panoptic_sample"
    entry = {"NAME": "own_coco", "KIND": "panoptic", "IMAGES": str(sample / "input_images")}
    entry |= {"JSON": str(sample / "panoptic_examples.json")}
    cfg = read(tmp_path, [{**entry, "PNGS": str(sample / "panoptic_examples")}], PANOPTIC)
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES) == (80, 54)
    load_dataset("own_coco")
    derived = json.loads(Path(MetadataCatalog.get("own_coco").json_file).read_text())
    # Its converter to detection format wrote this file, of the stuff as well.
    official = json.loads((sample / "panoptic_coco_detection_format.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in derived["images"]}
    things = {category["id"] for category in derived["categories"]}

    def masks(content):
        found = []
        for a in content["annotations"]:
            if a["category_id"] in things:
                rle = a["segmentation"]
                if isinstance(rle, list):
                    rle = mask_api.merge(mask_api.frPyObjects(rle, *sizes[a["image_id"]]))
                pixels = hashlib.sha1(mask_api.decode(rle).tobytes()).hexdigest()
                found.append((a["image_id"], a["category_id"], a["iscrowd"], a["area"], pixels))
        return sorted(found)

    assert len(derived["annotations"]) > 20
    assert masks(derived) == masks(official)


WRONG = {
    "text instead of keys": ("[0]='street' must be keys and values", "street"),
    "KIND": ("KIND='semantc' must be one of semantic", {"KIND": "semantc"}),
    "unknown key": ("there is no key LABEL for the kind semantic", {"LABEL": "x"}),
    "text": ("CLASSES=[1, 2] must be one or more different texts", {"CLASSES": [1, 2]}),
    "count": ("COLORS has 1 items, and CLASSES has 4", {"COLORS": [[1, 2, 3]]}),
    "colour": ("LABEL_COLORS=[[300, 0, 0]] must be", {"LABEL_COLORS": [[300, 0, 0]]}),
    "both": ("exclude each other", {"LABEL_VALUES": [0, 1, 2, 3]}),
    "twice": (
        "the label (128, 128, 128) belongs to sky and to road",
        {"LABEL_COLORS": [[128, 128, 128], [[1, 1, 1], [128, 128, 128]], [2, 2, 2], [3, 3, 3]]},
    ),
    "ignored class": ("belongs to sky and to IGNORED", {"IGNORED": [128, 128, 128]}),
    "ignored value": ("IGNORED=255 must be three whole numbers", {"IGNORED": 255}),
    "name": ("is the name of another dataset", {"NAME": "camvid_sem_seg_train"}),
    "missing folder": ("the folder LABELS", {"LABELS": "nowhere"}),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_entries(tmp_path, tried, case):
    tried(f"own data: {case}")
    message, keys = WRONG[case]
    entry, _ = own_data.semantic(tmp_path / "data", "train")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(tmp_path, [keys if isinstance(keys, str) else {**entry, **keys}])
        DatasetCatalog.get("own_train")
    assert message in str(error.value) and "DATASETS.CUSTOM" in str(error.value)


def test_all_wrong_entries_are_named_at_once(tmp_path):
    entries = splits("semantic", tmp_path)
    del entries[0]["LABELS"]
    entries[1] = {**entries[1], "CLASSES": [], "NAME": "own_train"}
    with pytest.raises(ValueError) as error:
        read(tmp_path, entries)
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("DATASETS.CUSTOM[0] (own_train): LABELS is missing")
    assert lines[1].startswith("DATASETS.CUSTOM[1] (own_train): CLASSES=[] must be")
    assert "2 entries have the NAME 'own_train'" in lines[2]


@pytest.mark.parametrize("kind", ["semantic", "instances", "panoptic"])
def test_classes_that_differ_between_train_and_test(tmp_path, tried, kind):
    tried(f"own data: other classes in test, {kind}")
    entries = splits(kind, tmp_path)
    if kind == "semantic":
        entries[1]["CLASSES"] = ["sky", "road", "bicycle", "sign"]
    else:
        path = tmp_path / kind / "test.json"
        path.write_text(path.read_text().replace('"car"', '"bicycle"'))
    with pytest.raises(ValueError) as error:
        read(tmp_path, entries, BASES[kind])
    assert "own_train and own_test have different classes: in own_test" in str(error.value)
    assert "1 missing (car), 1 unknown (bicycle)" in str(error.value)


def test_classes_in_another_order(tmp_path):
    entries = splits("semantic", tmp_path)
    entries[1]["CLASSES"] = ["road", "sky", "car", "sign"]
    with pytest.raises(ValueError, match="in own_test their order differs"):
        read(tmp_path, entries)


NO_JSON = {
    "byte order mark": (lambda text: "\ufeff" + text, "begins with a byte order mark"),
    "HTML": (lambda text: "<!DOCTYPE html><html>404</html>", "is not JSON, or cut off"),
    "cut off": (lambda text: text[: len(text) // 2], "is not JSON, or cut off"),
    "empty": (lambda text: "", "is not JSON, or cut off"),
    "results": (lambda text: "[]", "a list is the form of results"),
    "no categories": (lambda text: '{"images": []}', "it has no categories"),
}


@pytest.mark.parametrize("case", NO_JSON)
@pytest.mark.parametrize("kind", ["instances", "panoptic"])
def test_a_json_that_is_none(srnet, tmp_path, tried, kind, case):
    tried(f"own data: JSON, {case}")
    change, message = NO_JSON[case]
    config = own_data.write_config(tmp_path / "own.yaml", BASES[kind], splits(kind, tmp_path))
    path = tmp_path / kind / "train.json"
    path.write_text(change(path.read_text()), encoding="utf-8")
    for command in (["train"], ["data", "check"]):
        result = srnet(*command, "--config-file", config)
        assert result.status == 1
        last = result.err.strip().splitlines()[-1]
        assert str(path) in result.err and message in result.err and "Traceback" not in last


@pytest.mark.parametrize(
    ("kind", "base", "wanted"),
    [
        ("semantic", MASK_RCNN, "GeneralizedRCNN takes instances or panoptic"),
        ("instances", CAMVID, "SRSemanticSegmentor takes semantic or panoptic"),
        ("instances", PANOPTIC, "PanopticFPN takes panoptic"),
    ],
)
def test_a_kind_that_the_model_does_not_learn(tmp_path, kind, base, wanted):
    entry, _ = getattr(own_data, kind)(tmp_path / "data", "train")
    with pytest.raises(ValueError, match=wanted):
        read(tmp_path, [entry], base)


def test_a_missing_json_is_no_matter_until_it_is_used(tmp_path):
    entry, _ = own_data.instances(tmp_path / "data", "train")
    absent = {**entry, "NAME": "own_absent", "JSON": "nowhere.json"}
    path = own_data.write_config(tmp_path / "own.yaml", MASK_RCNN, [absent, entry])
    cfg = get_cfg(path, ["DATASETS.TRAIN", "('own_train',)"])
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3 and "own_absent" not in DatasetCatalog
    with pytest.raises(FileNotFoundError, match=r"nowhere.json is missing.*own_absent"):
        get_cfg(path)


def test_importing_registers_nothing():
    code = "import srnet.data.datasets.custom as c; from detectron2.data import DatasetCatalog as d"
    code += "; assert not [n for n in d.list() if n.startswith('own_')]"
    code += (
        "; import srnet.model_zoo; n = d.list(); srnet.model_zoo.get_cfg(); assert d.list() == n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
