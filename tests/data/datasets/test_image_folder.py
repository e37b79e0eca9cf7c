"""Listing folders of classes: order, memory, the listing kept between runs, bad folders."""

import os
import sys
import time

import pytest
import torchvision
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from srnet import get_cfg
from srnet.data.datasets import image_folder
from srnet.data.datasets.image_folder import ImageFolder, load_image_folder, pack
from srnet.data.datasets.imagenet import check_synsets, imagenet_synsets

CONFIG = "configs/ImageNet-Classification/resnet_18.yaml"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "srnet"


def draw(folder, classes=("b", "a", "c"), images=3, age=60):
    """A folder of classes, last changed so many seconds ago."""
    for index, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(images):
            Image.new("RGB", (40, 30), (80 * index, 20 * i, 0)).save(folder / name / f"{i}.png")
    settle(folder, age)
    return folder


def settle(folder, age=60):
    for path in (p for p in folder.rglob("*") if p.is_dir()):
        os.utime(path, (time.time() - age, time.time() - age))


def test_the_listing_is_torchvisions(tmp_path):
    folder = draw(tmp_path / "set", images=12)
    (folder / "a" / "deep" / "er").mkdir(parents=True)
    Image.new("L", (8, 8)).save(folder / "a" / "deep" / "er" / "é x.JPEG")
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "a" / "._0.png").write_bytes(b"of macOS")
    (folder / ".hidden").mkdir()
    ours = load_image_folder(str(folder))
    (folder / ".hidden").rmdir()
    (folder / "a" / "._0.png").unlink()
    theirs = torchvision.datasets.ImageFolder(str(folder))
    assert ours.classes == theirs.classes == ["a", "b", "c"]
    listed = {(x["file_name"], x["class_index"]) for x in ours}
    assert listed == set(theirs.samples) and len(ours) == len(theirs) == 37
    assert [x["image_id"] for x in ours] == list(range(37))
    with pytest.raises(IndexError):
        ours[37]


def test_a_million_names_are_no_objects():
    """ImageNet's size: 1000 classes, 1.28 million names."""
    classes = [f"n{i:08d}" for i in range(1000)]
    names = ([f"{c}_{j}.JPEG" for j in range(1281)] for c in classes)
    blocks = sys.getallocatedblocks()
    dataset = ImageFolder("/data", pack(classes, names))
    assert len(dataset) == 1_281_000
    assert sys.getallocatedblocks() - blocks < 5000
    listing = dataset.listing
    assert listing.names.nbytes + listing.ends.nbytes + listing.class_ends.nbytes < 50e6
    item = dataset[1281 * 500 + 7]
    assert item["class_index"] == 500
    assert item["file_name"] == "/data/n00000500/n00000500_7.JPEG"
    started = time.perf_counter()
    for index in range(0, len(dataset), 129):
        dataset[index]
    assert time.perf_counter() - started < 5


def test_the_kept_listing_is_used_until_something_changes(tmp_path, cache, monkeypatch):
    folder = draw(tmp_path / "set")
    scans = []
    scan = image_folder._scan
    monkeypatch.setattr(image_folder, "_scan", lambda *a: scans.append(a) or scan(*a))
    first = list(load_image_folder(str(folder)))
    assert list(load_image_folder(str(folder))) == first and len(scans) == 1
    (folder / "a" / "1.png").unlink()
    assert len(load_image_folder(str(folder))) == 8 and len(scans) == 2
    settle(folder)
    load_image_folder(str(folder))
    draw(folder, classes=["d"])
    assert load_image_folder(str(folder)).classes == ["a", "b", "c", "d"]
    (kept,) = cache.iterdir()
    settle(folder)
    load_image_folder(str(folder))
    kept.write_bytes(kept.read_bytes()[:300])  # cut short
    assert len(load_image_folder(str(folder))) == 11
    count = len(scans)
    assert len(load_image_folder(str(folder))) == 11 and len(scans) == count


def test_a_folder_that_changed_a_moment_ago_is_not_kept(tmp_path, cache):
    load_image_folder(str(draw(tmp_path / "set", age=0)))
    assert not cache.exists()


def test_without_a_writable_cache(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(image_folder, "_cache_path", lambda folder: "/proc/none/listing.npz")
    assert len(load_image_folder(str(draw(tmp_path / "set")))) == 9
    assert "cannot keep the listing" in caplog.text


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        load_image_folder(str(tmp_path / "none"))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.png").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="flat has no class folders"):
        load_image_folder(str(tmp_path / "flat"))
    folder = draw(tmp_path / "set")
    (folder / "aa").mkdir()
    with pytest.raises(ValueError, match=r"set/aa has no images"):
        load_image_folder(str(folder))


def test_the_synsets():
    synsets = imagenet_synsets()
    assert len(synsets) == len(set(synsets)) == 1000 and synsets == sorted(synsets)
    # Places that everyone knows, by torchvision's names of the classes.
    names = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    for synset, name in (
        ("n01440764", "tench"),
        ("n02099601", "golden retriever"),
        ("n02510455", "giant panda"),
        ("n03792782", "mountain bike"),
        ("n15075141", "toilet tissue"),
    ):
        assert names[synsets.index(synset)] == name
    check_synsets(synsets, "imagenet/train")
    with pytest.raises(ValueError) as error:
        check_synsets([*synsets[1:], "zebra"], "imagenet/train")
    assert "1 missing (n01440764), 1 unknown (zebra)" in str(error.value)


def configure(root, *options):
    return get_cfg(str(root / CONFIG), ["MODEL.DEVICE", "cpu", *map(str, options)])


def folders(tmp_path):
    train, test = tmp_path / "train", tmp_path / "val"
    return ["DATASETS.IMAGE_FOLDER_TRAIN", train, "DATASETS.IMAGE_FOLDER_TEST", test]


def test_any_folder_of_classes_by_two_keys(root, tmp_path):
    draw(tmp_path / "train"), draw(tmp_path / "val", images=2)
    options = [*folders(tmp_path), "MODEL.CLASSIFIER.NUM_CLASSES", 3]
    for _ in range(2):  # the second time as in a process that was started with the same config
        cfg = configure(root, *options)
    assert (str(tmp_path / "train"),) == cfg.DATASETS.TRAIN
    assert len(DatasetCatalog.get(cfg.DATASETS.TEST[0])) == 6
    assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).evaluator_type == "classification"
    with pytest.raises(ValueError, match="is the name of another dataset"):
        configure(root, "DATASETS.IMAGE_FOLDER_TRAIN", "imagenet_val")


def test_classes_that_differ(root, tmp_path):
    draw(tmp_path / "train")
    draw(tmp_path / "val", classes=("a", "b", "x"))
    with pytest.raises(ValueError) as error:
        configure(root, *folders(tmp_path), "MODEL.CLASSIFIER.NUM_CLASSES", 3)
    assert "different classes" in str(error.value)
    assert "1 missing (c), 1 unknown (x)" in str(error.value)


def test_a_wrong_class_count(root, tmp_path):
    draw(tmp_path / "train"), draw(tmp_path / "val")
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 1000, and .*train needs 3"):
        configure(root, *folders(tmp_path))
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 10, and .*imagenet_train needs 1000"):
        configure(root, "MODEL.CLASSIFIER.NUM_CLASSES", 10)


def test_missing_imagenet_says_how_to_prepare_it():
    with pytest.raises(FileNotFoundError, match=r"torchvision.datasets.ImageNet"):
        DatasetCatalog.get("imagenet_train")
