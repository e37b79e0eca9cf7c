"""Images that cannot be read: an evaluation stops at them, or counts them as missing."""

import numpy as np
import pytest
import torch
from coco_trees import Truth
from detectron2.data import DatasetCatalog
from detectron2.evaluation import inference_on_dataset
from PIL import Image
from semantic_trees import write_cityscapes
from srnet import get_cfg
from srnet.data import build_mapper, build_test_loader
from srnet.data.datasets.cityscapes import register_all_cityscapes
from srnet.data.datasets.scenes import register_all_scenes
from srnet.data.prepare import scenes
from srnet.data.prepare.conversion import run_script
from srnet.data.read import UnreadableImageError
from srnet.evaluation import build_evaluator


@pytest.fixture
def damaged(tmp_path, datasets_forgotten):
    """Three scenes, the second of them with an image that is cut off; yields its path."""
    options = ["--train", "1", "--val", "3", "--size", "96x128"]
    run_script(scenes, ["--output", str(tmp_path / "scenes"), *options])
    path = tmp_path / "scenes" / "images" / "val" / "val_00001.jpg"
    path.write_bytes(path.read_bytes()[:900])
    with datasets_forgotten("scenes_"):
        register_all_scenes(str(tmp_path))
        yield path


def evaluate(name, architecture, folder, skip, model):
    options = ["MODEL.META_ARCHITECTURE", architecture, "DATALOADER.SKIP_BAD_IMAGES", skip]
    options += ["DATALOADER.NUM_WORKERS", 0, "MODEL.MASK_ON", True]
    config = "mask_rcnn_R_18_FPN.yaml"
    if architecture == "PanopticFPN":
        config = "scenes_panoptic_fpn_R_18.yaml"
        options += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6]
    cfg = get_cfg(f"quick_schedules/{config}", options)
    loader = build_test_loader(cfg, name, build_mapper(cfg, is_train=False))
    return inference_on_dataset(model, loader, build_evaluator(cfg, name, str(folder)))


@pytest.mark.parametrize("architecture", ["PanopticFPN", "GeneralizedRCNN"])
def test_a_panoptic_evaluation_counts_what_is_missing(damaged, tmp_path, architecture, caplog):
    name = "scenes_panoptic_val_separated"
    with pytest.raises(UnreadableImageError, match=f"cannot read the image {damaged}"):
        evaluate(name, architecture, tmp_path / "a", False, Truth(name))
    found = evaluate(name, architecture, tmp_path / "b", True, Truth(name))
    assert found["images"] == {"predicted": 2, "missing": 1}
    assert f"1 of the 3 images of {name} could not be read, the first is {damaged}" in caplog.text
    # Objects of the missing image count as missed; the other scores leave it out.
    assert found["panoptic_seg"]["PQ"] == pytest.approx(100)
    assert found["sem_seg"]["mIoU"] == pytest.approx(100)
    assert 0 < found["bbox"]["AP"] < 99 and 0 < found["segm"]["AP"] < 99


def test_nothing_is_said_where_nothing_is_missing(damaged, tmp_path, caplog):
    damaged.write_bytes(damaged.with_name("val_00000.jpg").read_bytes())
    name = "scenes_instance_val"
    found = evaluate(name, "GeneralizedRCNN", tmp_path / "a", True, Truth(name))
    assert "images" not in found and "could not be read" not in caplog.text
    assert found["bbox"]["AP"] == pytest.approx(100)


def test_an_evaluation_without_any_image_is_an_error(damaged, tmp_path):
    for path in damaged.parent.iterdir():
        path.write_bytes(b"")
    name = "scenes_panoptic_val_separated"
    with pytest.raises(RuntimeError, match=f"no image of {name} was predicted"):
        evaluate(name, "PanopticFPN", tmp_path / "a", True, Truth(name))


def test_cityscapes_semantic_labels(tmp_path, datasets_forgotten, prepare_script):
    """The official tool refuses a missing prediction."""
    write_cityscapes(tmp_path, {"train": [], "val": ["frankfurt", "munster"], "test": []})
    prepare_script("cityscapes", tmp_path / "cityscapes", "--partial", "--workers", 1)
    name = "cityscapes_fine_sem_seg_val"
    options = ["MODEL.META_ARCHITECTURE", "SRSemanticSegmentor", "INPUT.MIN_SIZE_TEST", 0]
    options += ["DATALOADER.NUM_WORKERS", 0, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19]
    with datasets_forgotten("cityscapes_fine_instance"):
        register_all_cityscapes(str(tmp_path))
        records = DatasetCatalog.get(name)
        truth = {record["file_name"]: one_hot(record) for record in records}
        with open(records[0]["file_name"], "r+b") as file:
            file.truncate(300)

        def model(inputs):
            return [{"sem_seg": truth[x["file_name"]]} for x in inputs]

        base = "Cityscapes-SemanticSegmentation/fcn_R_50.yaml"
        cfg = get_cfg(base, [*options, "DATALOADER.SKIP_BAD_IMAGES", True])
        loader = build_test_loader(cfg, name, build_mapper(cfg, is_train=False))
        found = inference_on_dataset(model, loader, build_evaluator(cfg, name, str(tmp_path)))
        assert found["sem_seg"]["IoU"] == pytest.approx(100)
        assert found["images"] == {"predicted": 1, "missing": 1}
        strict = build_evaluator(get_cfg(base, options), name, str(tmp_path))
        with pytest.raises(RuntimeError, match=f"1 of the 2 images of {name} have no prediction"):
            inference_on_dataset(model, loader, strict)


def one_hot(record):
    label = np.array(Image.open(record["sem_seg_file_name"])).astype(np.int64)
    label[label == 255] = 0
    return torch.eye(19)[torch.from_numpy(label)].permute(2, 0, 1)
