"""What cannot be exported ends with one line, and leaves no file."""

import sys

import numpy as np
import pytest
import torch
from srnet.export.compare import compare
from srnet.export.formats import find_format
from srnet.export.graph import ExportError


@pytest.fixture
def refused(srnet, models, pictures, tmp_path):
    """refused(name, *words): the line that ends the command."""

    def run(name, *words, images=pictures):
        inputs = ["--input", *images] if images else []
        output = ["--output", tmp_path / "out" / "model.onnx"]
        result = srnet("export", *output, *inputs, *models(name)[0], *words)
        assert result.status == 1
        assert not list((tmp_path / "out").glob("**/*"))
        lines = [line for line in result.err.splitlines() if line.startswith("srnet: error: ")]
        assert len(lines) == 1 and "Traceback" not in result.err
        return lines[0]

    return run


@pytest.mark.parametrize(
    "words, message",
    [
        (["--format", "tflite"], "--format tflite is unknown: choose one of onnx, pt2, torchscr"),
        (["--format", "torchscript"], "of --format torchscript ends in .torchscript"),
        (["MODEL.WEIGHTS", ""], "no weights: end the command with MODEL.WEIGHTS"),
        (["MODEL.WEIGHTS", "none.pth"], "none.pth"),
        (["MODEL.META_ARCHITECTURE", "SemanticSegmentor"], "SemanticSegmentor cannot be exported"),
    ],
)
def test_the_line_names_what_is_wrong(refused, words, message, tried):
    tried(f"export: {words}")
    assert message in refused("dfnet_v1_SR", *words)


def test_weights_that_lack_a_part(refused, models, tmp_path, tried):
    tried("export: weights without the head")
    saved = models("dfnet_v1_SR")[1].state_dict()
    cut = {name: value for name, value in saved.items() if "sem_seg_head" not in name}
    torch.save({"model": cut}, tmp_path / "cut.pth")
    line = refused("dfnet_v1_SR", "MODEL.WEIGHTS", tmp_path / "cut.pth")
    assert "cut.pth" in line and "sem_seg_head" in line


def test_images_that_are_not_there(refused, tmp_path, tried):
    tried("export: a missing image, a broken one, and none")
    assert "there is no such image" in refused("dfnet_v1_SR", images=[tmp_path / "none.png"])
    (tmp_path / "broken.png").write_text("no image")
    assert "broken.png" in refused("dfnet_v1_SR", images=[tmp_path / "broken.png"])
    assert "give some with --input" in refused("dfnet_v1_SR", "DATASETS.TEST", "()", images=())


def test_a_detector_as_pt2(srnet, models, pictures, tmp_path):
    words = ["--format", "pt2", "--output", tmp_path / "a.pt2", "--input", *pictures]
    result = srnet("export", *words, *models("mask_rcnn_R_18_FPN_SR")[0])
    assert result.status == 1 and "take --format onnx or torchscript" in result.err
    assert not list(tmp_path.iterdir())


def test_a_detector_that_detects_nothing(srnet, models, pictures, tmp_path):
    words = ["--format", "torchscript", "--output", tmp_path / "a.torchscript", "--input"]
    words += [*pictures, *models("mask_rcnn_R_18_FPN_SR")[0]]
    result = srnet("export", *words, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    assert result.status == 1 and "detects nothing" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"--format onnx needs {module}, .*`export`"):
        find_format("onnx")


def test_a_file_that_predicts_otherwise_is_not_kept(srnet, models, pictures, tmp_path, monkeypatch):
    """Even where an older one is in its place: that stays."""
    target, path = find_format("torchscript"), tmp_path / "a.torchscript"
    path.write_text("older")
    load = target.load

    def wrong(path):
        run = load(path)
        return lambda image: [output + 0.1 for output in run(image)]

    monkeypatch.setattr(target, "load", wrong)
    words = ["--format", "torchscript", "--output", path, "--input", *pictures]
    result = srnet("export", *words, *models("resnet_18_SR")[0])
    assert result.status == 1 and "logits by 0.1, and 0.0001 is allowed" in result.err
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 50], [1, 1, 11, 11]], np.float32)
FOUND = {
    "boxes": BOXES,
    "scores": np.array([0.9, 0.8, 0.7], np.float32),
    "classes": np.array([0, 1, 2]),
}


def test_detections_are_matched_whatever_their_order():
    swapped = {name: value[[2, 0, 1]] for name, value in FOUND.items()}
    assert [d.value for d in compare(FOUND, swapped, "an image")] == [0, 0]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boxes": BOXES + 0.6}, "boxes by 0.6"),
        ({"scores": FOUND["scores"] - 0.002}, "scores by 0.002"),
        ({"scores": FOUND["scores"] * np.nan}, "scores by nan"),
        ({"classes": np.array([0, 1, 1])}, "3 detections, where the model has 3, of other cla"),
        ({name: value[:2] for name, value in FOUND.items()}, "2 detections, where the model has 3"),
    ],
)
def test_other_detections_are_an_error(change, message):
    with pytest.raises(ExportError, match=message):
        compare(FOUND, {**FOUND, **change}, "an image")


def test_no_detections_in_both_are_equal():
    none = {name: value[:0] for name, value in FOUND.items()}
    assert compare(none, none, "an image") == []


@pytest.mark.parametrize("largest, allowed", [(1.0, 1e-4), (50.0, 1e-4), (1000.0, 2e-3)])
def test_logits_may_differ_by_rounding(largest, allowed):
    logits = np.array([[largest, -0.5]])
    assert compare({"logits": logits}, {"logits": logits + 0.9 * allowed}, "an image")
    with pytest.raises(ExportError, match=f"and {allowed:.2g} is allowed"):
        compare({"logits": logits}, {"logits": logits + 1.1 * allowed}, "an image")
