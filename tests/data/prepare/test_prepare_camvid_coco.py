"""CamVid's derived instances: against the data folder's own script, and rules on a drawn label."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

SPLITS = ("train", "val", "test")


def derive(root, base, *arguments, check=True):
    return subprocess.run(
        [sys.executable, root / "datasets" / "prepare_camvid_coco.py", *arguments],
        env={**os.environ, "DETECTRON2_DATASETS": str(base)},
        capture_output=True,
        text=True,
        check=check,
    )


def segments_of(folder, split):
    """Of each image: (category, mask) of all panoptic segments as bytes, and the stuff target."""
    content = json.loads((folder / "annotations" / f"panoptic_{split}.json").read_text())
    found = {}
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        assert image["id"] == annotation["image_id"]
        with Image.open(folder / f"panoptic_{split}" / annotation["file_name"]) as picture:
            ids = np.asarray(picture).astype(int) @ (1, 256, 65536)
        with Image.open(folder / f"stuff_{split}" / annotation["file_name"]) as picture:
            stuff = np.asarray(picture).tobytes()
        segments = {
            (s["category_id"], s["area"], tuple(s["bbox"]), (ids == s["id"]).tobytes())
            for s in annotation["segments_info"]
        }
        found[image["file_name"]] = segments, stuff
    return found, content["categories"]


def instances_of(folder, split):
    coco = COCO(folder / "annotations" / f"instances_{split}.json")
    return {
        (coco.imgs[a["image_id"]]["file_name"], a["category_id"], coco.annToMask(a).tobytes())
        for a in coco.anns.values()
    }


@pytest.mark.data
def test_it_agrees_with_the_script_of_the_data_folder(root, data_root, tmp_path):
    script = data_root.parent / "tools" / "camvid_to_coco.py"
    if not script.is_file():
        pytest.skip(f"needs {script}")
    for split in SPLITS:
        for folder in (split, f"{split}annot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            for path in sorted((data_root / "camvid" / folder).iterdir())[::40]:
                (tmp_path / "camvid" / folder / path.name).symlink_to(path)
    theirs, ours = tmp_path / "theirs", tmp_path / "camvid_coco"
    subprocess.run([sys.executable, script, tmp_path / "camvid", theirs], check=True)
    derive(root, tmp_path)
    for split in SPLITS:
        assert segments_of(ours, split) == segments_of(theirs, split)
        assert instances_of(ours, split) == instances_of(theirs, split) != set()


def draw(base):
    label = np.full((60, 80), 3, np.uint8)  # Road
    label[10:20, 10:20] = 8  # a Car, and another that touches it at a corner: one part
    label[20:30, 20:30] = 8
    label[40:47, 40:49] = 9  # a Pedestrian of 63 pixels
    for split in SPLITS:
        for folder, image in ((split, label), (f"{split}annot", label)):
            (base / "camvid" / folder).mkdir(parents=True)
            Image.fromarray(image).save(base / "camvid" / folder / "a.png")


def test_parts_that_touch_are_one_and_small_ones_void(root, tmp_path):
    draw(tmp_path)
    result = derive(root, tmp_path)
    assert "train: 1 images, 1 instances: 0 SignSymbol, 1 Car" in result.stdout
    found, _ = segments_of(tmp_path / "camvid_coco", "val")
    segments, stuff = found["a.png"]
    assert sorted((c, area, box) for c, area, box, _ in segments) == [
        (4, 60 * 80 - 263, (0, 0, 80, 60)),
        (9, 200, (10, 10, 20, 20)),
    ]
    assert {value: stuff.count(value) for value in set(stuff)} == {0: 200, 255: 63, 4: 4537}
    derive(root, tmp_path)  # a second time


def test_what_it_did_not_make_is_kept(root, tmp_path):
    draw(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    result = derive(root, tmp_path, "--output", tmp_path / "mine", check=False)
    assert result.returncode == 1 and "thesis.tex" in result.stderr
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_missing_camvid_is_one_message(root, tmp_path):
    result = derive(root, tmp_path, check=False)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert str(tmp_path / "camvid" / "train") in result.stderr
    assert "srnet prepare camvid segnet" in result.stderr
    assert not list(tmp_path.iterdir())
