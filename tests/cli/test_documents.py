"""The commands of GETTING_STARTED.md's first part, run as they stand on tiny files."""

import re
import shlex

import cv2
import numpy as np
import pytest
import torch
from srnet import build_model, get_cfg

# Models that take minutes become small ones of their family.
SMALLER = {
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml": (
        "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
    ),
}


def section(root, title):
    """A part of GETTING_STARTED.md."""
    text = (root / "GETTING_STARTED.md").read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with the files that the commands name."""
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for name in ("street.jpg", "pictures/a.png", "pictures/sub/a.jpg", "more/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(name, picture)
    video = cv2.VideoWriter("clip.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        video.write(picture)
    video.release()
    weights = {
        "model_final.pth": "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml",
        "mask_rcnn.pth": "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml",
    }
    for name, config in weights.items():
        torch.save({"model": build_model(get_cfg(config)).state_dict()}, name)
    return tmp_path


def test_predicting_as_the_first_part_says(srnet, root, place):
    text = section(root, "Predict")
    commands = re.findall(r"^    srnet (predict .*)$", text, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        words = [SMALLER.get(word, word) for word in shlex.split(command)]
        keys = ["INPUT.MIN_SIZE_TEST", 64] if set(words) & set(SMALLER.values()) else []
        result = srnet(*words, *keys)
        assert result.status == 0, (command, result.err)
    made = {str(p.relative_to(place / "out")) for p in (place / "out").rglob("*") if p.is_file()}
    assert made == {
        "pictures/street.jpg",
        "pictures/a.jpg",
        "pictures/sub/a.jpg",
        "labels/a.png",
        "labels/sub/a.png",
        "labels/classes.json",
        "pictures/clip.mp4",
        "pictures/b.jpg",
        "coco_results.json",
        "coco_images.json",
    }
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    assert names["labels"].shape == (48, 64)


def test_the_first_screen_is_a_picture_in_and_a_picture_out(root):
    screen = "\n".join((root / "GETTING_STARTED.md").read_text().splitlines()[:28])
    assert "srnet predict" in screen and "--input street.jpg" in screen
    assert "out/pictures/street.jpg" in screen and "srnet.Predictor" in screen
