"""COCO annotations that are wrong, empty or at odds with the model."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_coco_panoptic_separated
from detectron2.utils.events import EventStorage
from srnet import build_model, get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.engine import Trainer
from srnet.evaluation import build_evaluator

SQUARE = [20.0, 20.0, 60.0, 20.0, 60.0, 60.0, 20.0, 60.0]
RLE = {"size": [96, 128], "counts": [96 * 128]}
NAME = "coco_checks"


def annotation(identity, image_id, category=1, segmentation=(SQUARE,), crowd=0):
    box = [20, 20, 40, 40]
    return {
        **{"id": identity, "image_id": image_id, "category_id": category, "bbox": box},
        **{"area": 1600, "iscrowd": crowd, "segmentation": RLE if crowd else list(segmentation)},
    }


@pytest.fixture
def write(tmp_path):
    """Write and register a dataset of drawn images."""

    def register(annotations, images=2, panoptic=False):
        rng = np.random.default_rng(0)
        for folder in ("images", "stuff", "panoptic"):
            (tmp_path / folder).mkdir()
        for i in range(images):
            image = rng.integers(0, 255, (96, 128, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), image)
            cv2.imwrite(str(tmp_path / "stuff" / f"{i}.png"), image[..., 0] % 3)
        content = {
            "images": [
                {"id": 100 + i, "file_name": f"{i}.jpg", "height": 96, "width": 128}
                for i in range(images)
            ],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "box"}, {"id": 3, "name": "ring"}],
        }
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(content))
        if not panoptic:
            register_coco_instances(NAME, {}, str(file), str(tmp_path / "images"))
            return
        categories = [{"id": i, "name": str(i), "isthing": int(i < 4)} for i in (1, 3, 4, 5)]
        listed = []
        for i in range(images):
            ids = np.zeros((96, 128, 3), np.uint8)
            ids[:40, :, 2], ids[40:, 64:, 2] = 1, 2  # in OpenCV's order: red
            cv2.imwrite(str(tmp_path / "panoptic" / f"{i}.png"), ids)
            segments = [{"id": 1, "category_id": 4}, {"id": 2, "category_id": 1, "iscrowd": None}]
            listed.append({"image_id": 100 + i, "file_name": f"{i}.png", "segments_info": segments})
        panoptic = {"images": content["images"], "annotations": listed, "categories": categories}
        (tmp_path / "panoptic.json").write_text(json.dumps(panoptic))
        metadata = {"thing_classes": ["box", "ring"], "stuff_classes": ["things", "sky", "sea"]}
        metadata["thing_dataset_id_to_contiguous_id"] = {1: 0, 3: 1}
        metadata["stuff_dataset_id_to_contiguous_id"] = {0: 0, 4: 1, 5: 2}
        paths = [tmp_path / p for p in ("images", "panoptic", "panoptic.json", "stuff")]
        register_coco_panoptic_separated(NAME, metadata, *map(str, [*paths, file]))

    yield register
    for name in (NAME, f"{NAME}_separated", f"{NAME}_stuffonly"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def configure(root, *options, panoptic=False):
    name = "panoptic_fpn_R_18_SR" if panoptic else "mask_rcnn_R_18_FPN_SR"
    dataset = f"{NAME}_separated" if panoptic else NAME
    classes = ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3]
    sizes = ["INPUT.MIN_SIZE_TRAIN", [64], "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0]
    sizes += ["DATALOADER.ASPECT_RATIO_GROUPING", False, "MODEL.DEVICE", "cpu"]
    datasets = ["DATASETS.TRAIN", (dataset,), "DATASETS.TEST", (dataset,)]
    file = root / "configs" / "quick_schedules" / f"{name}.yaml"
    return get_cfg(str(file), [*sizes, *classes, *datasets, *options])


def load(cfg):
    return build_train_loader(cfg, build_mapper(cfg, is_train=True))


def losses(cfg, batch):
    torch.manual_seed(0)
    with EventStorage():
        return build_model(cfg)(batch)


def test_a_category_that_the_file_does_not_define(root, write):
    write([annotation(7, 100), annotation(8, 101, category=2)])
    message = r"instances.json: annotation 8 of the image 1.jpg \(id 101\) has category_id 2"
    with pytest.raises(ValueError, match=message):
        load(configure(root))
    with pytest.raises(ValueError, match=message):
        Trainer.build_test_loader(configure(root), NAME)


def test_a_category_that_the_model_has_no_class_for(root, write):
    write([annotation(7, 100), annotation(8, 101, category=3)])
    with pytest.raises(ValueError, match=r"1.jpg \(id 101\).*class 1, and .*NUM_CLASSES 1 knows"):
        load(configure(root, "MODEL.ROI_HEADS.NUM_CLASSES", 1))


def test_images_without_instances_are_left_out_or_trained_on(root, write):
    """100 has an instance, 101 a crowd alone, 102 nothing."""
    write([annotation(7, 100), annotation(8, 101, crowd=1)], images=3)
    batch = next(iter(load(configure(root))))
    assert {record["image_id"] for record in batch} == {100}
    cfg = configure(root, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False)
    seen = {}
    batches = iter(load(cfg))
    while len(seen) < 3:
        seen |= {record["image_id"]: record for record in next(batches)}
    assert [len(seen[i]["instances"]) for i in (100, 101, 102)] == [1, 0, 0]
    values = losses(cfg, [seen[101], seen[102]])
    assert all(value.isfinite() for value in values.values())
    assert values["loss_mask"] == 0
    sum(values.values()).backward()


def test_a_polygon_of_two_points_is_dropped_with_a_warning(root, write, caplog):
    two = [20.0, 20.0, 60.0, 60.0]
    write([annotation(7, 100, segmentation=(two,)), annotation(8, 101, segmentation=(two, SQUARE))])
    logging.getLogger("detectron2").propagate = True
    with caplog.at_level(logging.WARNING):
        loader = load(configure(root))
    assert "Filtered out 1 instances without valid segmentation" in caplog.text
    assert {record["image_id"] for record in next(iter(loader))} == {101}


def test_a_semantic_label_is_missing(root, write, tmp_path):
    write([annotation(7, 100), annotation(8, 101)], panoptic=True)
    (tmp_path / "stuff" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1.jpg \(id 101\) or its semantic label .*1.png"):
        load(configure(root, panoptic=True))


def test_a_panoptic_png_is_missing(root, write, tmp_path):
    write([annotation(7, 100)], panoptic=True)
    build_evaluator(configure(root, panoptic=True), f"{NAME}_separated", str(tmp_path))
    (tmp_path / "panoptic" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"0.png of the image with id 100"):
        build_evaluator(configure(root, panoptic=True), f"{NAME}_separated", str(tmp_path))


def test_a_panoptic_model_trains_on_a_crowd_alone(root, write):
    write([annotation(8, 100, crowd=1)], panoptic=True)
    cfg = configure(root, panoptic=True)
    values = losses(cfg, next(iter(load(cfg))))
    assert values.keys() >= {"loss_sem_seg", "loss_mask", "loss_rpn_cls"}
    assert all(value.isfinite() for value in values.values())


@pytest.mark.parametrize(
    "key, value, wanted",
    [
        ("MODEL.ROI_HEADS.NUM_CLASSES", 5, 2),
        ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2, 3),
        ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 0, 255),
    ],
)
def test_a_split_into_things_and_stuff_that_contradicts_the_heads(root, write, key, value, wanted):
    write([annotation(7, 100)], panoptic=True)
    with pytest.raises(ValueError, match=f"{key} is {value}, .*{NAME}_separated needs {wanted}"):
        configure(root, key, value, panoptic=True)


def test_coco_has_80_things_and_54_stuff_classes(root):
    for folder in ("COCO-InstanceSegmentation", "COCO-PanopticSegmentation"):
        for file in (root / "configs" / folder).glob("*R_50*_SR_1x.yaml"):
            get_cfg(str(file))
    file = root / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml"
    with pytest.raises(ValueError, match=r"ROI_HEADS.NUM_CLASSES is 81, .*coco_2017_train needs"):
        get_cfg(str(file), ["MODEL.ROI_HEADS.NUM_CLASSES", 81])


@pytest.mark.parametrize("checkpoint_period, back", [(1, "model_0000000.pth"), (9, "random")])
def test_a_loss_that_is_not_finite(root, write, tmp_path, checkpoint_period, back):
    write([annotation(7, 100), annotation(8, 101)])
    options = ["SOLVER.MAX_ITER", 5, "OUTPUT_DIR", str(tmp_path / "output"), "TEST.EVAL_PERIOD", 0]
    options += ["SOLVER.CHECKPOINT_PERIOD", checkpoint_period]
    trainer = Trainer(configure(root, *options))
    forward, calls = trainer.model.forward, []

    def diverge(batch):
        calls.append(1)
        values = forward(batch)
        return values | ({"loss_mask": values["loss_mask"] * float("nan")} if calls[1:] else {})

    trainer.model.forward = diverge
    trainer.resume_or_load(resume=False)
    message = f"diverged at iteration 1: the loss loss_mask is nan.*{back}"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()
    for path in (tmp_path / "output").glob("*.pth"):  # none has the weights of a diverged step
        weights = torch.load(path, weights_only=True)["model"].values()
        assert all(value.isfinite().all() for value in weights), path
