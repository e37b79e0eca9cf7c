"""Own data by config alone: trained, evaluated, and the numbers compared with independent ones."""

import json
import re

import numpy as np
import own_data
import pytest
import torch
from detectron2.data import DatasetCatalog
from PIL import Image
from pycocotools import mask as mask_api
from srnet import get_cfg
from srnet.engine import Trainer

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
SHORT = {
    "SOLVER": {"MAX_ITER": 2, "IMS_PER_BATCH": 2, "WARMUP_ITERS": 0, "STEPS": []},
    "DATALOADER": {"NUM_WORKERS": 0},
    "SEED": 1,
}
SEMANTIC = {**SHORT, "INPUT": {"CROP": {"SIZE": [64, 64]}, "MIN_SIZE_TRAIN": [48, 96]}}
RCNN = {
    **SHORT,
    "INPUT": {"MIN_SIZE_TRAIN": [64], "MIN_SIZE_TEST": 64},
    "MODEL": {"RPN": {"POST_NMS_TOPK_TEST": 20}, "ROI_HEADS": {"SCORE_THRESH_TEST": 0.0}},
}
PANOPTIC = "quick_schedules/panoptic_fpn_R_18_SR.yaml"


@pytest.fixture(autouse=True)
def in_its_own_folder(datasets_forgotten, monkeypatch, tmp_path):
    """Derived files go to the test's folder, and its datasets are forgotten after it."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with datasets_forgotten("own_"):
        yield


def train(srnet, config, output):
    result = srnet("train", "--config-file", config, "OUTPUT_DIR", output, "MODEL.WEIGHTS", "")
    assert result.status == 0, result.err
    lines = (output / "metrics.json").read_text().splitlines()
    return json.loads(lines[-1])


class Constant(torch.nn.Module):
    """A model that returns what a function makes of each input."""

    def __init__(self, predict):
        super().__init__()
        self.predict = predict

    def forward(self, inputs):
        return [self.predict(record) for record in inputs]


@pytest.mark.parametrize("form", ["color", "palette", "index"])
def test_semantic_labels_of_every_form(srnet, tmp_path, form):
    entry, _ = own_data.semantic(tmp_path / "data", "train", form=form)
    test, truth = own_data.semantic(tmp_path / "data", "test", form=form)
    config = own_data.write_config(tmp_path / "own.yaml", CAMVID, [entry, test], **SEMANTIC)
    results = train(srnet, config, tmp_path / "out")
    assert {"sem_seg/mIoU", *(f"sem_seg/IoU-{c}" for c in own_data.CLASSES)} <= results.keys()
    # The config of the run says the counts, and is all that is needed to evaluate again.
    cfg = get_cfg(tmp_path / "out" / "config.yaml")
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 4
    assert cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE == 255
    # All road: its IoU is its share of the labelled pixels.
    scores = torch.zeros(4, own_data.HEIGHT, own_data.WIDTH)
    scores[1] = 1
    found = Trainer.test(cfg, Constant(lambda record: {"sem_seg": scores}))["sem_seg"]
    labels = np.stack(truth)
    assert found["IoU-road"] == pytest.approx(100 * (labels == 1).sum() / (labels != 255).sum())
    assert found["IoU-car"] == 0


def test_instances_with_ids_of_their_own(srnet, tmp_path):
    entry, _ = own_data.instances(tmp_path / "data", "train", ids=(7, 12, 90))
    test, content = own_data.instances(tmp_path / "data", "test", ids=(7, 12, 90))
    base = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
    config = own_data.write_config(tmp_path / "own.yaml", base, [entry, test], **RCNN)
    results = train(srnet, config, tmp_path / "out")
    assert {"bbox/AP", "segm/AP", "bbox/AP-car", "segm/AP-sign"} <= results.keys()
    cfg = get_cfg(tmp_path / "out" / "config.yaml")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    written = json.loads((tmp_path / "out/inference/coco_instances_results.json").read_text())
    assert {result["category_id"] for result in written} <= {7, 12, 90}
    # The truth as prediction, with the signs (90) of half of the images left out: its AP is the
    # share of recall thresholds that are reached, by pycocotools 51 of 101.
    names = {image["id"]: image for image in content["images"]}
    kept = sorted(names)[: len(names) // 2]

    def predict(record):
        from detectron2.structures import Boxes, Instances

        chosen = [
            a
            for a in content["annotations"]
            if a["image_id"] == record["image_id"]
            and (a["category_id"] != 90 or a["image_id"] in kept)
        ]
        boxes = torch.tensor([a["bbox"] for a in chosen], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        rles = [mask_api.frPyObjects(a["segmentation"], 64, 96)[0] for a in chosen]
        masks = torch.from_numpy(np.stack([mask_api.decode(r) for r in rles])).bool()
        found = Instances((64, 96), pred_boxes=Boxes(boxes), scores=torch.ones(len(chosen)))
        found.pred_classes = torch.tensor([{7: 0, 12: 1, 90: 2}[a["category_id"]] for a in chosen])
        found.pred_masks = masks
        return {"instances": found}

    found = Trainer.test(cfg, Constant(predict))
    assert found["bbox"]["AP-car"] == pytest.approx(100)
    assert found["segm"]["AP-car"] == pytest.approx(100)
    assert found["segm"]["AP-sign"] == pytest.approx(100 * 51 / 101)


def test_panoptic_data_without_derived_files(srnet, tmp_path):
    entry, labels = own_data.panoptic(tmp_path / "data", "train")
    test, _ = own_data.panoptic(tmp_path / "data", "test")
    before = sorted(p.relative_to(tmp_path) for p in (tmp_path / "data").rglob("*"))
    config = own_data.write_config(tmp_path / "own.yaml", PANOPTIC, [entry, test], **RCNN)
    results = train(srnet, config, tmp_path / "out")
    wanted = {"bbox/AP", "segm/AP", "sem_seg/mIoU", "sem_seg/IoU-road", "panoptic_seg/PQ"}
    assert wanted <= results.keys()
    assert sorted(p.relative_to(tmp_path) for p in (tmp_path / "data").rglob("*")) == before
    cfg = get_cfg(tmp_path / "out" / "config.yaml")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2 and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 3
    for label, record in zip(labels, DatasetCatalog.get("own_train"), strict=True):
        # Things are 0, then sky and road; void stays.
        stuff = np.select([label == 255, label == 0, label == 1], [255, 1, 2], 0)
        assert record["sem_seg_file_name"].startswith(str(tmp_path / "cache"))
        with Image.open(record["sem_seg_file_name"]) as image:
            assert np.array_equal(np.asarray(image), stuff)
        for annotation in record["annotations"]:
            polygons = mask_api.frPyObjects(annotation["segmentation"], 64, 96)
            mask = mask_api.decode(mask_api.merge(polygons)).astype(bool)
            assert np.array_equal(mask, label == annotation["category_id"] + 2)


def test_the_panoptic_truth_as_prediction_has_pq_100(tmp_path):
    entry, labels = own_data.panoptic(tmp_path / "data", "test")
    config = own_data.write_config(tmp_path / "own.yaml", PANOPTIC, [entry], **RCNN)
    cfg = get_cfg(config, ["OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"])

    def predict(record):
        from detectron2.structures import Boxes, Instances

        label = torch.from_numpy(labels[record["image_id"] - 40].astype(int))
        segments = torch.where(label == 255, 0, label + 1)
        info = [
            {"id": c + 1, "isthing": c > 1, "category_id": c - 2 if c > 1 else c + 1}
            for c in range(4)
        ]
        none = Instances((64, 96), pred_boxes=Boxes(torch.zeros(0, 4)), scores=torch.zeros(0))
        none.pred_classes = torch.zeros(0, dtype=torch.int64)
        none.pred_masks = torch.zeros(0, 64, 96, dtype=torch.bool)
        stuff = torch.zeros(3, 64, 96)
        stuff[1] = (label == 0).float()
        stuff[2] = (label == 1).float()
        stuff[0] = (label > 1).float()
        return {"panoptic_seg": (segments, info), "sem_seg": stuff, "instances": none}

    found = Trainer.test(cfg, Constant(predict))
    assert found["panoptic_seg"]["PQ"] == pytest.approx(100)
    assert found["sem_seg"]["mIoU"] == pytest.approx(100)


def test_two_sets_of_different_labels_in_one_training(srnet, tmp_path):
    first, _ = own_data.semantic(tmp_path / "a", "first", form="index")
    second, _ = own_data.semantic(tmp_path / "b", "second", form="color")
    test, _ = own_data.semantic(tmp_path / "c", "test", form="palette")
    entries = [first, second, test]
    config = own_data.write_config(tmp_path / "own.yaml", CAMVID, entries, **SEMANTIC)
    results = train(srnet, config, tmp_path / "out")
    assert "sem_seg/mIoU" in results


def test_two_folders_of_classes_in_one_training(srnet, tmp_path):
    entries = []
    for name in ("first", "second", "test"):
        for c, color in (("cat", 40), ("dog", 200)):
            folder = tmp_path / name / c
            folder.mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (40, 32), (color, color, 10 * i)).save(folder / f"{i}.png")
        folder = str(tmp_path / name)
        entries.append({"NAME": f"own_{name}", "KIND": "image_folder", "FOLDER": folder})
    base = "ImageNet-Classification/resnet_18_SR.yaml"
    sizes = {"CLASSIFICATION": {"SIZE": 32, "SIZE_TEST": 32, "RESIZE_TEST": 32}}
    options = {**SHORT, "INPUT": sizes}
    config = own_data.write_config(tmp_path / "own.yaml", base, entries, **options)
    train(srnet, config, tmp_path / "out")
    assert get_cfg(tmp_path / "out" / "config.yaml").MODEL.CLASSIFIER.NUM_CLASSES == 2


def test_two_processes_register_for_themselves(tmp_path, train_net):
    entry, _ = own_data.panoptic(tmp_path / "data", "train")
    test, _ = own_data.panoptic(tmp_path / "data", "test")
    config = own_data.write_config(tmp_path / "own.yaml", PANOPTIC, [entry, test], **RCNN)
    options = ["--num-gpus", 2, "OUTPUT_DIR", tmp_path / "out", "MODEL.WEIGHTS", ""]
    options += ["SOLVER.IMS_PER_BATCH", 2, "INPUT.MIN_SIZE_TRAIN", "(64,)"]
    options += ["INPUT.CROP.SIZE", "[0.9,0.9]", "SOLVER.MAX_ITER", 1]
    train_net(tmp_path, config, *options)
    lines = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    assert "panoptic_seg/PQ" in json.loads(lines[-1])


def draw_for_the_documents(base):
    """The data that the examples of docs/OWN_DATA.md describe."""
    for split in ("train", "test"):
        own_data.semantic(base / "street", split)
        own_data.instances(base / "parts", split)
        own_data.panoptic(base / "rooms", split)
        for c, color in (("cat", 40), ("dog", 200)):
            folder = base / "pets" / split / c
            folder.mkdir(parents=True)
            Image.new("RGB", (40, 32), (color,) * 3).save(folder / "0.png")


QUICK = ["MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", 2]
QUICK += ["DATALOADER.NUM_WORKERS", 0, "SEED", 1]
SMALL_RCNN = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64]
SMALL_RCNN += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
SMALL_RCNN += ["MODEL.CONTEXT.REDUCTION", 16, "MODEL.FPN.OUT_CHANNELS", 32]
EXAMPLES = {
    "street.yaml": (
        ["INPUT.CROP.SIZE", "(64,64)", "INPUT.MIN_SIZE_TRAIN", "(48,96)"],
        "sem_seg/IoU-sign",
    ),
    "parts.yaml": (SMALL_RCNN, "segm/AP"),
    "rooms.yaml": ([*SMALL_RCNN, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32], "panoptic_seg/PQ"),
    "pets.yaml": (["INPUT.CLASSIFICATION.SIZE", 32], "classification/top1"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_documents(
    srnet, root, tmp_path, monkeypatch, datasets_forgotten, name
):
    page = (root / "docs" / "OWN_DATA.md").read_text()
    examples = dict(re.findall(r"<!-- (\S+) -->\n```yaml\n(.*?)```", page, re.DOTALL))
    assert examples.keys() == EXAMPLES.keys()
    draw_for_the_documents(tmp_path / "datasets")
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    (tmp_path / name).write_text(examples[name])
    options, metric = EXAMPLES[name]
    with datasets_forgotten(name.split(".")[0]):
        for command in (["data", "check"], ["data", "browse", "--num", 2], ["train"]):
            result = srnet(*command, "--config-file", name, *QUICK, *options)
            assert result.status == 0, result.err
        output = tmp_path / "output" / name.removesuffix(".yaml")
        assert metric in json.loads((output / "metrics.json").read_text().splitlines()[-1])
        with Image.open(output / "browse" / "sheet_1.png") as sheet:
            assert min(sheet.size) > 100
        weights = ["MODEL.WEIGHTS", output / "model_final.pth"]
        commands = ["eval"] if name == "pets.yaml" else ["eval", "visualize"]
        for command in commands:
            result = srnet(command, "--config-file", output / "config.yaml", *weights)
            assert result.status == 0, result.err
