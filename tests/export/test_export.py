"""Exported files predict in their own runtimes what the models predict here."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout

import numpy as np
import onnxruntime
import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou
from PIL import Image
from srnet.cli.main import main
from srnet.data.read import read_image
from srnet.export.postprocess import combine_panoptic, paste_masks

LOGITS = ("dfnet_v1_SR", "srnet_R_50", "resnet_18_SR")
DETECTORS = ("mask_rcnn_R_18_FPN_SR", "cascade_mask_rcnn_R_18_FPN_SR", "panoptic_fpn_R_18_SR")
SIZES = ((96, 128), (120, 152))


@pytest.fixture(scope="module")
def exported(models, pictures, tmp_path_factory):
    """exported(name): the ONNX file of a model, written by the command once."""
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def get(name):
        if name not in made:
            words, _ = models(name)
            path = folder / f"{name}.onnx"
            command = ["export", "--output", path, "--input", *pictures, *words]
            with redirect_stdout(io.StringIO()) as printed:
                assert main([str(word) for word in command]) == 0
            made[name] = path, printed.getvalue()
        return made[name]

    return get


def run_onnx(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.numpy()})


def picture(pictures, size, format="RGB"):
    """A drawn image of a size: (3, H, W), float32."""
    image = Image.fromarray(read_image(pictures[0], format)).resize(size[::-1], Image.BILINEAR)
    return torch.from_numpy(np.asarray(image, np.float32).transpose(2, 0, 1).copy())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LOGITS)
@torch.no_grad()
def test_logits_in_onnxruntime(exported, models, pictures, name, size):
    path, printed = exported(name)
    image = picture(pictures, size)
    batch = torch.stack([image, image.flip(-1), image.flip(-2)])
    (found,) = run_onnx(path, batch)
    for one, logits in zip(batch, found, strict=True):
        (output,) = models(name)[1]([{"image": one}])
        expected = output["logits" if "logits" in output else "sem_seg"].numpy()
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    # srnet_R_50's SR can be folded, a classifier's gates cannot
    assert ("SR in its plain form" in printed) == (name != "resnet_18_SR")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DETECTORS)
@torch.no_grad()
def test_detections_in_onnxruntime(exported, models, pictures, name, size):
    path, _ = exported(name)
    image = picture(pictures, size, "BGR")
    boxes, scores, classes, masks, *sem_seg = run_onnx(path, image)
    expected = models(name)[1].inference([{"image": image}], do_postprocess=False)
    if sem_seg:
        expected, logits = expected
        logits = logits[0, :, : size[0], : size[1]].numpy()
        np.testing.assert_allclose(sem_seg[0], logits, rtol=0, atol=1e-4)
    (expected,) = expected
    assert len(boxes) == len(expected) >= 5
    assert np.ptp(scores) > 0.05
    best = pairwise_iou(expected.pred_boxes, Boxes(torch.from_numpy(boxes)))
    best[expected.pred_classes[:, None] != torch.from_numpy(classes)] = -1
    order = best.argmax(1).numpy()
    assert sorted(order) == list(range(len(boxes)))
    np.testing.assert_allclose(boxes[order], expected.pred_boxes.tensor, rtol=0, atol=0.5)
    np.testing.assert_allclose(scores[order], expected.scores, rtol=0, atol=1e-3)
    np.testing.assert_allclose(masks[order], expected.pred_masks[:, 0], atol=1e-2)


@torch.no_grad()
def test_panoptic_results_from_onnx_and_numpy(exported, models, pictures):
    """What remains after the file is done by NumPy as Detectron2 does it."""
    name, size = "panoptic_fpn_R_18_SR", SIZES[1]
    path, _ = exported(name)
    image = picture(pictures, size, "BGR")
    boxes, scores, classes, masks, sem_seg = run_onnx(path, image)
    options = json.loads(path.with_suffix(".json").read_text())["panoptic"] | {"min_score": 0.3}
    model = models(name)[1]
    model.combine_instances_score_thresh = 0.3
    (expected,) = model([{"image": image}])
    segments, info = expected["panoptic_seg"]
    pasted = paste_masks(masks, boxes, *size)
    found, found_info = combine_panoptic(scores, classes, pasted, sem_seg.argmax(0), **options)
    assert {i["isthing"] for i in info} == {True, False}
    assert kinds_of(found_info) == kinds_of(info)
    # The ids of instances with nearly equal scores may be in another order: compare the classes.
    classes_found = classes_of(found, found_info)
    assert (classes_found == classes_of(segments.numpy(), info)).mean() > 0.99


def kinds_of(info):
    return sorted((segment["isthing"], segment["category_id"]) for segment in info)


def classes_of(segments, info):
    """The class of each pixel, things negative; 0 for none."""
    table = np.zeros(len(info) + 1, int)
    for segment in info:
        table[segment["id"]] = (segment["category_id"] + 1) * (-1 if segment["isthing"] else 1)
    return table[segments]


def test_masks_are_pasted_as_detectron2_does():
    from detectron2.layers import paste_masks_in_image

    rng = np.random.default_rng(0)
    masks = rng.random((4, 28, 28)).astype(np.float32)
    boxes = np.array([[3, 5, 60, 40], [-9.5, -4, 20, 71], [50.2, 10.7, 90, 30.1], [0, 0, 80, 60]])
    expected = paste_masks_in_image(torch.from_numpy(masks), torch.from_numpy(boxes), (60, 80))
    assert (paste_masks(masks, boxes, 60, 80) == expected.numpy()).mean() > 0.999


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
@pytest.mark.parametrize("name", ["dfnet_v1_SR", "resnet_18_SR"])
@torch.no_grad()
def test_logits_in_the_other_formats(srnet, models, pictures, tmp_path, name, kind):
    words, model = models(name)
    path = tmp_path / f"{name}.{kind}"
    done = srnet("export", "--format", kind, "--output", path, "--input", *pictures, *words)
    assert done.status == 0, done.err
    module = torch.export.load(path).module() if kind == "pt2" else torch.jit.load(path)
    for size in SIZES:
        image = picture(pictures, size)
        (found,) = module(image[None])
        (output,) = model([{"image": image}])
        expected = output["logits" if "logits" in output else "sem_seg"]
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_detector_in_torchscript(srnet, models, pictures, tmp_path):
    words, model = models("mask_rcnn_R_18_FPN_SR")
    path = tmp_path / "model.torchscript"
    words = ["--format", "torchscript", "--output", path, "--input", *pictures, *words]
    done = srnet("export", *words)
    assert done.status == 0, done.err
    for size in SIZES:
        image = picture(pictures, size, "BGR")
        (expected,) = model.inference([{"image": image}], do_postprocess=False)
        boxes, scores, *_ = torch.jit.load(path)(image)
        torch.testing.assert_close(boxes, expected.pred_boxes.tensor, rtol=0, atol=0.01)
        torch.testing.assert_close(scores, expected.scores, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_fixed_size_is_folded(srnet, models, pictures, tmp_path):
    import onnx

    words, model = models("dfnet_v1_SR")
    convolutions = {}
    for fold in ("always", "never"):
        path = tmp_path / f"{fold}.onnx"
        options = ["--size", "64x96", "--output", path, "--input", *pictures]
        done = srnet("export", *options, *words, "MODEL.CONTEXT.FOLD", fold)
        assert done.status == 0, done.err
        assert f"in {int(fold == 'always')} of 1 modules" in done.out
        nodes = onnx.load(path).graph.node
        convolutions[fold] = sum(node.op_type == "Conv" for node in nodes)
        image = picture(pictures, (64, 96))
        (expected,) = model([{"image": image}])
        np.testing.assert_allclose(
            run_onnx(path, image[None])[0][0], expected["sem_seg"], rtol=0, atol=1e-4
        )
    # Folded, b, c and W_R are no convolutions of maps (b and c may be one for the squeeze).
    assert convolutions["always"] < convolutions["never"]


@pytest.mark.parametrize("name", ["dfnet_v1_SR", "mask_rcnn_R_18_FPN_SR", "resnet_18_SR"])
def test_the_example_draws_without_this_project(exported, pictures, root, tmp_path, name):
    path, _ = exported(name)
    script, drawn = root / "docs/examples/onnx_predict.py", tmp_path / "drawn.png"
    check = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0]); "
    check += "assert not {'torch', 'srnet', 'detectron2', 'cv2'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check, script, path, pictures[0], drawn],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    before, after = np.asarray(Image.open(pictures[0])), np.asarray(Image.open(drawn))
    assert before.shape == after.shape
    assert (before != after).any() == (name != "resnet_18_SR")  # which prints five classes
    assert len(done.stdout.splitlines()) == (5 if name == "resnet_18_SR" else 0)
