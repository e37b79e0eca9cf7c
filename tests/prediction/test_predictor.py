"""`srnet.Predictor` against Detectron2's own DefaultPredictor, and what it takes and refuses."""

import json

import cv2
import numpy as np
import pytest
import srnet
import torch
from detectron2.engine import DefaultPredictor
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from srnet import get_cfg
from srnet.data.read import UnreadableImageError
from srnet.model_zoo.publish import publish
from srnet.prediction.predictor import read_config

FAMILIES = ("semantic", "instances", "panoptic", "classifier")


@pytest.fixture(scope="module")
def predictor(trained):
    """The predictor of a family, made once."""
    made = {}

    def make(family):
        if family not in made:
            t = trained(family)
            made[family] = srnet.Predictor(
                t.config, weights=t.weights, opts=t.options, device="cpu"
            )
        return made[family]

    return make


def assert_same(ours, theirs):
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        if key == "instances":
            assert len(value) == len(ours[key]) > 0
            fields = value.get_fields()
            assert set(fields) == set(ours[key].get_fields())
            assert torch.equal(fields["pred_boxes"].tensor, ours[key].pred_boxes.tensor)
            for name in set(fields) - {"pred_boxes"}:
                assert torch.equal(fields[name], ours[key].get(name))
        elif key == "panoptic_seg":
            assert torch.equal(value[0], ours[key][0]) and value[1] == ours[key][1]
        else:
            torch.testing.assert_close(ours[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_predicts_what_detectron2s_predictor_does(predictor, trained, pixels, family, tmp_path):
    """From a path, an array and a PIL image; the channels of the picture differ."""
    ours, picture = predictor(family), pixels(70, 96)
    expected = DefaultPredictor(ours.cfg)(picture)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture)
    assert_same(ours(str(path)), expected)
    assert_same(ours(picture), expected)
    assert_same(ours(Image.fromarray(picture[:, :, ::-1])), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_order_of_channels_counts(predictor, pixels, family):
    picture = pixels()
    key = {"semantic": "sem_seg", "panoptic": "sem_seg", "classifier": "logits"}.get(family)
    found = [predictor(family)(x) for x in (picture, picture[:, :, ::-1].copy())]
    a, b = (x[key] if key else x["instances"].scores for x in found)
    assert a.shape != b.shape or not torch.equal(a, b)


def test_a_batch_gives_what_single_pictures_give(predictor, pixels):
    ours = predictor("semantic")
    inputs = [ours.prepare(Image.fromarray(pixels(seed=i))) for i in range(3)]
    for batched, x in zip(ours.predict(inputs), inputs, strict=True):
        torch.testing.assert_close(batched, ours.predict([x])[0], rtol=1e-4, atol=1e-5)


def test_inference_modes_of_the_config_count_in_batches(trained, pixels):
    t = trained("semantic")
    words = ["TEST.SEM_SEG.FLIP", True, "TEST.SEM_SEG.SCALES", "[0.75,1.0]"]
    ours = srnet.Predictor(t.config, weights=t.weights, opts=words, device="cpu")
    inputs = [ours.prepare(Image.fromarray(pixels(seed=i))) for i in range(2)]
    for found in ours.predict(inputs):  # probabilities: the mean of views
        torch.testing.assert_close(found["sem_seg"].sum(0), torch.ones(48, 64))


def test_grey_and_alpha_arrays(predictor, pixels):
    ours, picture = predictor("semantic"), pixels()
    alpha = np.dstack([picture, np.full(picture.shape[:2], 7, np.uint8)])
    assert_same(ours(alpha), ours(picture))
    grey = picture[:, :, 0].copy()
    assert_same(ours(grey), ours(np.dstack([grey] * 3)))


def test_an_opened_picture_is_turned_as_its_file_is(predictor, pixels, tmp_path):
    picture = Image.fromarray(pixels())
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    ours = predictor("semantic")
    with Image.open(tmp_path / "turned.png") as opened:
        assert_same(ours(opened), ours(tmp_path / "turned.png"))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)],
    ids=["float", "two channels", "empty"],
)
def test_arrays_that_are_no_pictures(predictor, picture):
    with pytest.raises(ValueError, match=r"is no picture: give uint8"):
        predictor("semantic")(picture)


def test_what_else_is_no_picture(predictor, tmp_path):
    with pytest.raises(TypeError, match="a list is no picture"):
        predictor("semantic")([1])
    (tmp_path / "a.jpg").write_text("no")
    with pytest.raises(UnreadableImageError, match=r"a\.jpg"):
        predictor("semantic")(tmp_path / "a.jpg")


def test_weights_must_be_named_once_and_with_their_config(trained):
    t = trained("semantic")
    with pytest.raises(ValueError, match="give one of them"):
        read_config(t.config, weights=t.weights, opts=["MODEL.WEIGHTS", "b.pth"])
    with pytest.raises(ValueError, match="without their config"):
        read_config(weights=t.weights)


def test_weights_that_are_missing_or_do_not_fit(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"MODEL.WEIGHTS=no\.pth is missing"):
        srnet.Predictor(trained("semantic").config, weights="no.pth")
    with pytest.raises(RuntimeError, match=r"classifier\.pth"):
        srnet.Predictor(trained("semantic").config, weights=trained("classifier").weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_other_classes_are_refused(trained, tmp_path, family):
    """As many of them, in another order: each region would get a wrong name."""
    t, path = trained(family), str(tmp_path / "own.safetensors")
    publish(get_cfg(t.config, ["MODEL.WEIGHTS", t.weights, *t.options]), path, name=t.config)
    srnet.Predictor(t.config, weights=path, opts=t.options)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        classes = json.loads(file.metadata()["classes"])
    save_file(tensors, path, {"classes": json.dumps(classes[::-1])})
    with pytest.raises(ValueError, match=rf"own\.safetensors was .*: '{classes[-1]}' where the"):
        srnet.Predictor(t.config, weights=path, opts=t.options)
    srnet.Predictor(t.config, weights=path, opts=[*t.options, "MODEL.WEIGHTS_STRICT", False])


def test_without_a_config_the_zoos_default_is_taken():
    cfg = read_config()
    assert srnet.model_zoo.get_checkpoint_url(srnet.model_zoo.default_model()) == cfg.MODEL.WEIGHTS
    assert cfg.MODEL.BACKBONE.NAME == "build_timm_backbone"
