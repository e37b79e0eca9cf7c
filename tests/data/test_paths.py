"""Names from data neither write outside an output folder nor read outside an image folder."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from semantic_trees import write_ade20k, write_cityscapes
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader
from srnet.data.paths import inside
from srnet.data.validate import read_panoptic
from srnet.engine import Trainer
from srnet.evaluation.cityscapes_labels import write_label_ids
from srnet.prediction.visualize import visualize

NAME = "coco_paths"


@pytest.mark.parametrize("name", ["a.png", "aachen/a.png", "a/../b.png", "./a.png", "..a", "a..b"])
def test_names_inside(tmp_path, name):
    path = inside(tmp_path, name)
    assert path.resolve().is_relative_to(tmp_path) and path.resolve() == (tmp_path / name).resolve()


@pytest.mark.parametrize(
    "name",
    ["../evil", "../../evil", "a/../../evil", "/evil", "//evil", "..", ".", "", "a/..", "a\0"],
)
def test_names_that_leave(tmp_path, name):
    with pytest.raises(ValueError, match=r"^list\.txt: the name .* leads out of .*only names") as e:
        inside(tmp_path, name, "list.txt")
    assert repr(name) in str(e.value)


@pytest.mark.parametrize("evil", ["../../evil", "../JPEGImages/../../evil", "ABSOLUTE"])
def test_pascal_contexts_list(small_semantic, prepare_script, tmp_path, evil):
    """The files that such a name would read exist: only the name is wrong."""
    voc, labels, out = tmp_path / "VOC2010", tmp_path / "in" / "labels", tmp_path / "a" / "out"
    shutil.copytree(small_semantic / "VOC2010", voc)
    shutil.copytree(small_semantic / "trainval", labels)
    evil = str(tmp_path / "evil") if evil == "ABSOLUTE" else evil
    image, label = next(voc.rglob("*.jpg")), next(labels.glob("*.mat"))
    for folder in (voc / "JPEGImages", labels):
        for suffix, source in ((".jpg", image), (".mat", label)):
            target = Path(f"{folder / evil}{suffix}").resolve()
            shutil.copy(source, target)
    listing = voc / "ImageSets" / "Main" / "train.txt"
    listing.write_text(f"{listing.read_text()}\n{evil}\n")
    before = sorted(tmp_path.rglob("*"))
    result = prepare_script(
        *("pascal_context", voc, labels, "--output", out, "--partial", "--workers", 1), check=False
    )
    assert result.returncode == 1
    assert f"train.txt: the name '{evil}.jpg' leads out of {voc}/JPEGImages" in result.stderr
    new = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(tmp_path / "a") for path in new)


@pytest.mark.parametrize(
    ("name", "write", "image"),
    [
        ("cityscapes", write_cityscapes, "leftImg8bit/train"),
        ("ade20k", write_ade20k, "images/training"),
    ],
)
def test_prepared_folders_write_beside_their_sources(prepare_script, tmp_path, name, write, image):
    """Their names are those of files in folders, which hold no way out."""
    base = tmp_path / "in" / name
    write(base)
    root = next(path.parents[len(Path(image).parts) - 1] for path in base.rglob(image))
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(root)}
    prepare_script(name, root, "--partial", "--workers", 1)
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(root)}
    assert after == before


@pytest.mark.parametrize("record", ["../../evil_leftImg8bit.png", "/a/b/../evil_leftImg8bit.png"])
def test_predictions_stay_in_their_folder(tmp_path, record):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = write_label_ids(torch.zeros(19, 4, 6), record, str(folder))
    assert Path(path) == folder / "evil_pred_labelIds.png"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [Path(path)]


def test_panoptic_names_are_those_of_the_folder(tmp_path):
    (tmp_path / "panoptic").mkdir()
    Image.new("RGB", (6, 4), (1, 0, 0)).save(tmp_path / "evil.png")
    segment = {"id": 1, "category_id": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 6}],
        "annotations": [{"image_id": 1, "file_name": "../evil.png", "segments_info": [segment]}],
        "categories": [{"id": 1, "name": "box"}],
    }
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    metadata = SimpleNamespace(
        panoptic_json=str(tmp_path / "panoptic.json"),
        panoptic_root=str(tmp_path / "panoptic"),
        thing_dataset_id_to_contiguous_id={1: 0},
        stuff_dataset_id_to_contiguous_id={0: 0},
    )
    with pytest.raises(FileNotFoundError, match=r"\.\./evil\.png"):
        read_panoptic(metadata)
    shutil.copy(tmp_path / "evil.png", tmp_path / "panoptic")
    content["annotations"][0]["file_name"] = "evil.png"
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    assert read_panoptic(metadata)["images"] == content["images"]


@pytest.fixture
def coco(tmp_path):
    """Register one image under a name of the annotations; get the config of a detector for it."""
    (tmp_path / "images" / "train").mkdir(parents=True)
    for path in ("secret.jpg", "images/a.jpg", "images/train/a.jpg", "images_2.jpg"):
        cv2.imwrite(str(tmp_path / path), np.zeros((96, 128, 3), np.uint8))

    def write(name, root="images"):
        box = [20.0, 20.0, 40.0, 40.0]
        square = [20.0, 20.0, 60.0, 20.0, 60.0, 60.0, 20.0, 60.0]
        thing = {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 1600, "iscrowd": 0}
        content = {
            "images": [{"id": 1, "file_name": name, "height": 96, "width": 128}],
            "annotations": [{**thing, "segmentation": [square]}],
            "categories": [{"id": 1, "name": "box"}],
        }
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(content))
        register_coco_instances(NAME, {}, str(file), str(tmp_path / root) if root else "")

        def config(*opts):
            data = ["DATASETS.TRAIN", (NAME,), "DATASETS.TEST", (NAME,)]
            opts = [*data, "MODEL.ROI_HEADS.NUM_CLASSES", 1, "DATALOADER.NUM_WORKERS", 0, *opts]
            return get_cfg("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", opts)

        return config

    yield write
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def readers(cfg):
    """What reads the images of a dataset."""
    yield lambda: build_train_loader(cfg, build_mapper(cfg, is_train=True))
    yield lambda: Trainer.build_test_loader(cfg, NAME)


@pytest.mark.parametrize("name", ["a.jpg", "train/a.jpg", "train/../a.jpg", "ABSOLUTE"])
def test_images_inside_the_image_folder(coco, tmp_path, name):
    config = coco(str(tmp_path / "images/a.jpg") if name == "ABSOLUTE" else name)
    for read in readers(config()):
        assert len(next(iter(read()))) > 0


@pytest.mark.parametrize("name", ["../secret.jpg", "train/../../secret.jpg", "SECRET", "NEIGHBOUR"])
def test_images_outside_the_image_folder(coco, tmp_path, name):
    absolute = {"SECRET": tmp_path / "secret.jpg", "NEIGHBOUR": tmp_path / "images_2.jpg"}
    config = coco(str(absolute.get(name, name)))
    for read in readers(config()):
        with pytest.raises(ValueError, match=r"is outside .*DATASETS\.ALLOW_OUTSIDE_ROOT True"):
            read()
    with pytest.raises(ValueError, match=r"is outside .*DATASETS\.ALLOW_OUTSIDE_ROOT True"):
        visualize(config(), dataset=NAME, output=str(tmp_path / "drawn"))
    for read in readers(config("DATASETS.ALLOW_OUTSIDE_ROOT", True)):
        assert len(next(iter(read()))) > 0


def test_the_folder_that_holds_all_images_is_the_other_remedy(coco, tmp_path):
    config = coco(str(tmp_path / "secret.jpg"), root=".")
    for read in readers(config()):
        assert len(next(iter(read()))) > 0
