import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from srnet.data.datasets.camvid import CLASSES, IMAGES, LAYOUTS, VOID, load_camvid
from srnet.data.datasets.semantic_folders import load_semantic_folders
from srnet.data.read import read_label

COMMAND = "python datasets/prepare_x.py"


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return str(path)


def test_missing_folder_names_path_and_command(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/some/where")
    folder = str(tmp_path / "camvid")
    with pytest.raises(FileNotFoundError) as error:
        load_camvid(folder, ("val",), LAYOUTS["camvid"][1])
    for part in (f"{folder}/val", LAYOUTS["camvid"][1], "DETECTRON2_DATASETS", "/some/where"):
        assert part in str(error.value)


def test_missing_label_folder(tmp_path):
    save(tmp_path / "val" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/valannot is missing"):
        load_semantic_folders(tmp_path / "val", tmp_path / "valannot", prepare=COMMAND)


def test_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no image.*{COMMAND}"):
        load_semantic_folders(tmp_path, tmp_path, prepare=COMMAND)


def test_images_without_labels(tmp_path):
    for name in "abc":
        save(tmp_path / "val" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
    save(tmp_path / "valannot" / "a.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(FileNotFoundError, match=f"2 of 3 images .* first is b.png.*{COMMAND}"):
        load_semantic_folders(tmp_path / "val", tmp_path / "valannot", prepare=COMMAND)


def test_hidden_files_are_left_out(tmp_path):
    for folder in ("val", "valannot"):
        save(tmp_path / folder / "a.png", np.zeros((2, 2), np.uint8))
        (tmp_path / folder / "._a.png").write_bytes(b"of macOS")
        (tmp_path / folder / ".DS_Store").touch()
    records = load_semantic_folders(tmp_path / "val", tmp_path / "valannot", prepare=COMMAND)
    assert [record["image_id"] for record in records] == ["a"]


def test_one_name_with_two_suffixes_is_refused(tmp_path):
    for name in ("a.jpg", "a.png"):
        save(tmp_path / "val" / name, np.zeros((2, 2), np.uint8))
    save(tmp_path / "valannot" / "a.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"val/a.jpg and a.png are two images with the one label"):
        load_semantic_folders(tmp_path / "val", tmp_path / "valannot", prepare=COMMAND)


def test_records_of_several_splits(small_camvid, caplog):
    folder = small_camvid / "camvid"
    with caplog.at_level(logging.WARNING):
        records = load_camvid(folder, ("train", "val"), "")
    assert len(records) == 15
    assert records[0] == {
        "file_name": str(folder / "train" / "0000.png"),
        "sem_seg_file_name": str(folder / "trainannot" / "0000.png"),
        "image_id": "0000",
    }
    assert "12 images, the complete split has 367" in caplog.text


def test_registered():
    for name in LAYOUTS:
        for split in (*IMAGES, "trainval"):
            assert f"{name}_sem_seg_{split}" in DatasetCatalog.list()
            metadata = MetadataCatalog.get(f"{name}_sem_seg_{split}")
            assert metadata.stuff_classes == [c for c, _ in CLASSES]
            assert (metadata.ignore_label, metadata.evaluator_type) == (VOID, "sem_seg")


@pytest.mark.data
def test_real_splits(data_root):
    folder = data_root / "camvid"
    counts = {s: len(load_camvid(folder, (s,), "")) for s in IMAGES}
    assert counts == {"train": 367, "val": 101, "test": 233}
    assert len(load_camvid(folder, ("train", "val"), "")) == 468
    for split in IMAGES:
        record = load_camvid(folder, (split,), "")[-1]
        assert read_label(record["sem_seg_file_name"], 11, VOID).shape == (360, 480)
        assert Image.open(record["file_name"]).size == (480, 360)
