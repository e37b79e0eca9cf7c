"""prepare_cityscapes.py, prepare_ade20k.py and prepare_pascal_context.py on small trees."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from detectron2.data.datasets.cityscapes import load_cityscapes_instances
from PIL import Image
from scipy.io import loadmat, savemat
from semantic_trees import write_ade20k, write_cityscapes, write_pascal_context
from srnet.data.datasets.ade20k import register_all_ade20k
from srnet.data.datasets.cityscapes import load_cityscapes, load_cityscapes_splits, load_instances
from srnet.data.datasets.pascal_context import CLASSES, VOID
from srnet.data.datasets.semantic_folders import load_semantic_folders

OPTIONS = ("--partial", "--workers", 1)


def read(path):
    return np.array(Image.open(path))


def times(folder):
    return {p: os.stat(p).st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def test_cityscapes_labels_are_the_official_tools(small_semantic, tmp_path):
    records = load_cityscapes_splits(str(small_semantic / "cityscapes"), ("train", "val"))
    assert len(records) == 21
    for record in records:
        label = record["sem_seg_file_name"]
        official = tmp_path / "official.png"
        polygons = label.replace("_labelTrainIds.png", "_polygons.json")
        json2labelImg(polygons, str(official), "trainIds")
        np.testing.assert_array_equal(read(label), read(official))
        assert os.path.exists(record["file_name"])


def test_cityscapes_test_split_needs_no_labels(small_semantic):
    records = load_cityscapes(str(small_semantic / "cityscapes"), "test")
    assert len(records) == 6 and "sem_seg_file_name" not in records[0]


def test_ade20k_moves_void_to_the_end(small_semantic):
    base = small_semantic / "ADEChallengeData2016"
    files = sorted((base / "annotations").rglob("*.png"))
    assert len(files) == 9
    for path in files:
        made = read(str(path).replace("annotations", "annotations_detectron2")).astype(int)
        np.testing.assert_array_equal((made + 1) % 256, read(path))


def test_pascal_context_keeps_the_59_classes(small_semantic):
    index = {release: i for i, (_, release) in enumerate(CLASSES)}
    for split, count in (("train", 6), ("val", 3)):
        labels = sorted((small_semantic / "pascal_context" / f"{split}annot").glob("*.png"))
        assert len(labels) == count
        for path in labels:
            release = loadmat(small_semantic / "trainval" / f"{path.stem}.mat")["LabelMap"]
            expected = [[index.get(int(v), VOID) for v in row] for row in release]
            np.testing.assert_array_equal(read(path), expected)
    assert len(CLASSES) == len(index) == 59


@pytest.mark.parametrize("named", [False, True])
def test_pascal_context_from_png(small_semantic, prepare_script, tmp_path, named):
    """Labels of 59 classes, in our order or in one that a file names, give what the .mat give."""
    base = small_semantic / "pascal_context"
    order = np.arange(59)[::-1] if named else np.arange(59)  # ours -> theirs
    (tmp_path / "png").mkdir()
    for path in base.glob("*annot/*.png"):
        table = np.zeros(256, np.uint8)
        table[:59] = order + 1
        Image.fromarray(table[read(path)]).save(tmp_path / "png" / path.name)
    names = tmp_path / "59_labels.txt"
    other = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
    lines = [f"{order[i] + 1}: {other.get(name, name)}\n" for i, (name, _) in enumerate(CLASSES)]
    names.write_text("".join(sorted(lines)))
    options = ("--names", names) if named else ()
    voc, out = small_semantic / "VOC2010", tmp_path / "out"
    prepare_script(
        "pascal_context", voc, tmp_path / "png", "--output", out, "--link", *options, *OPTIONS
    )
    for path in base.glob("*annot/*.png"):
        np.testing.assert_array_equal(read(out / path.relative_to(base)), read(path))
    assert all(p.is_symlink() for p in (out / "train").iterdir())


def test_hidden_files_are_left_out(prepare_script, tmp_path):
    write_cityscapes(tmp_path)
    write_ade20k(tmp_path)
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"of macOS")
    prepare_script("cityscapes", tmp_path / "cityscapes", *OPTIONS)
    prepare_script("ade20k", tmp_path / "ADEChallengeData2016", *OPTIONS)
    for split, count in (("train", 18), ("val", 3), ("test", 6)):
        assert len(load_cityscapes(str(tmp_path / "cityscapes"), split)) == count
    assert len(load_instances(str(tmp_path / "cityscapes"), "val")) == 3


def test_cityscapes_instances_are_detectron2s(small_semantic):
    root = small_semantic / "cityscapes"
    folders = [str(root / kind / "val") for kind in ("leftImg8bit", "gtFine")]
    expected = {record["file_name"]: record for record in load_cityscapes_instances(*folders)}
    found = {record["file_name"]: record for record in load_instances(str(root), "val")}
    assert found == expected and len(found) == 3


def test_a_second_run_writes_nothing_and_mends_what_is_broken(prepare_script, tmp_path):
    write_cityscapes(tmp_path)
    write_ade20k(tmp_path)
    voc, labels = write_pascal_context(tmp_path)
    commands = [
        ("cityscapes", tmp_path / "cityscapes", *OPTIONS),
        ("ade20k", tmp_path / "ADEChallengeData2016", *OPTIONS),
        ("pascal_context", voc, labels, "--output", tmp_path / "pascal_context", *OPTIONS),
    ]
    for command in commands:
        prepare_script(*command)
    before = times(tmp_path)
    for command in commands:
        assert "0 labels written" in prepare_script(*command).stdout
    assert times(tmp_path) == before
    broken = tmp_path / "ADEChallengeData2016/annotations_detectron2/training"
    broken = broken / "ADE_train_00000001.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:50])
    os.utime(broken, (0, 0))
    assert "train: 6 images, 1 labels written" in prepare_script(*commands[1]).stdout
    assert broken.read_bytes() == content
    assert not list(tmp_path.rglob("*.tmp"))


def test_incomplete_splits_are_refused(prepare_script, tmp_path):
    write_ade20k(tmp_path)
    write_cityscapes(tmp_path, {"train": ["aachen"], "val": [], "test": []})
    voc, labels = write_pascal_context(tmp_path)
    next(labels.glob("*train0.mat")).unlink()
    for command, message in (
        (("ade20k", tmp_path / "ADEChallengeData2016"), "has 20210; --partial"),
        (("cityscapes", tmp_path / "cityscapes"), "no images of bochum, bremen"),
        (("pascal_context", voc, labels, "--output", tmp_path / "out"), "train0.mat"),
    ):
        result = prepare_script(*command, "--workers", 1, check=False)
        assert result.returncode == 1
        assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_bad_sources_are_named(prepare_script, tmp_path):
    def fails(*command):
        result = prepare_script(*command, *OPTIONS, check=False)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
        return result.stderr

    ade = tmp_path / "ADEChallengeData2016"
    assert f"{ade}/images/training" in fails("ade20k", ade)
    write_ade20k(tmp_path)
    label = ade / "annotations/training/ADE_train_00000002.png"
    for mode, message in (("RGB", "RGB image where one channel"), ("L", "has the label 151")):
        Image.new(mode, (91, 70), (9, 9, 9) if mode == "RGB" else 151).save(label)
        error = fails("ade20k", ade)
        assert str(label) in error and message in error
    Image.new("L", (90, 70), 1).save(label)
    assert "90 x 70" in fails("ade20k", ade)

    write_cityscapes(tmp_path)
    folder = tmp_path / "cityscapes/gtFine/train/ulm"
    polygons = folder / "ulm_000000_000019_gtFine_polygons.json"
    polygons.write_text(json.dumps({"imgHeight": 4, "imgWidth": 4, "objects": [{"label": 1}]}))
    assert str(polygons) in fails("cityscapes", tmp_path / "cityscapes")
    polygons.unlink()
    assert str(polygons) in fails("cityscapes", tmp_path / "cityscapes")

    voc, labels = write_pascal_context(tmp_path)
    mat = labels / "2008_train1.mat"
    out = ("--output", tmp_path / "out")
    whole = mat.read_bytes()
    savemat(mat, {"Other": np.zeros((4, 4))})
    assert str(mat) in fails("pascal_context", voc, labels, *out)
    for content in (b"", b"cut", pickle.dumps({"LabelMap": 1}), whole[: len(whole) // 2]):
        mat.write_bytes(content)
        assert str(mat) in fails("pascal_context", voc, labels, *out)
    savemat(mat, {"LabelMap": np.full((60, 80), 460)})
    assert str(mat) in fails("pascal_context", voc, labels, *out)
    names = tmp_path / "labels.txt"
    names.write_text(names.read_text().replace("59: car", "59: cart"))
    assert "'cart', not 'car'" in fails("pascal_context", voc, labels, *out)


def test_what_is_missing_is_told_with_the_command(tmp_path, caplog):
    root = str(tmp_path / "cityscapes")
    with pytest.raises(
        FileNotFoundError, match=r"leftImg8bit/train is missing.*srnet prepare city"
    ):
        load_cityscapes(root, "train")
    write_cityscapes(tmp_path, {"train": ["aachen", "ulm"]})
    with pytest.raises(FileNotFoundError, match=r"2 label files of 2 .*aachen_.*_gtFine_labelTr"):
        load_cityscapes(root, "train")
    assert len(load_instances(root, "train")) == 2
    polygons = next((tmp_path / "cityscapes/gtFine/train/ulm").glob("*_polygons.json"))
    content = polygons.read_text()
    for wrong in ("", "[]", "{}", content[:-9]):
        polygons.write_text(wrong)
        with pytest.raises(ValueError, match=f"{polygons} is not a Cityscapes annotation"):
            load_instances(root, "train")
    polygons.write_text(content)
    next((tmp_path / "cityscapes/gtFine/train/ulm").glob("*_instanceIds.png")).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 label .*ulm_.*_gtFine_instanceIds.png.*prepare"
    ):
        load_instances(root, "train")
    (tmp_path / "cityscapes/gtFine/train/ulm").rename(tmp_path / "ulm")
    with pytest.raises(FileNotFoundError, match=r"gtFine/train/ulm.*srnet prepare cityscapes"):
        load_cityscapes(root, "train")
    write_cityscapes(tmp_path, {"test": ["bonn"]})
    assert len(load_cityscapes(root, "test")) == 1
    assert "1525. Missing cities: berlin, bielefeld, leverkusen, mainz, munich" in caplog.text


def test_the_command_ends_with_one_line(root, tmp_path):
    command = [sys.executable, root / "datasets/prepare_ade20k.py", tmp_path / "none"]
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("prepare_ade20k.py: the folder")
    assert len(result.stderr.splitlines()) == 1


def test_ade20k_and_pascal_context_say_how_they_are_prepared(tmp_path):
    for name in ("ade20k", "pascal_context"):
        with pytest.raises(FileNotFoundError, match=f"prepare_{name}.py"):
            load_semantic_folders(
                str(tmp_path / "images"),
                str(tmp_path / "labels"),
                prepare=f"python datasets/prepare_{name}.py",
            )
    assert callable(register_all_ade20k)
