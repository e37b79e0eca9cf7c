"""`srnet figures`, with the model that the package has, on small drawn images."""

import csv

import cv2
import pytest
import torch
from srnet import build_model, get_cfg

DETECTOR = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.manual_seed(0)
    torch.save({"model": build_model(get_cfg(DETECTOR)).state_dict()}, path)
    return path


def test_channels_of_the_default_model(srnet, small_camvid, tmp_path):
    """The truth is found beside the images; counts of the CSV add up to the labels'."""
    images = small_camvid / "camvid" / "test"
    done = srnet("figures", "channels", "--input", images, "--output", tmp_path)
    assert done.status == 0, done.err
    assert "sem_seg_head.context of SRSemanticSegmentor" in done.out
    assert cv2.imread(str(tmp_path / "channels.png")).std() > 10
    counted = rows(tmp_path / "channels.csv")
    labels = [cv2.imread(str(p), 0) for p in sorted((small_camvid / "camvid/testannot").iterdir())]
    sky = sum(int((label == 0).sum()) for label in labels)
    of_sky = [r for r in counted if r["class"] == "Sky" and r["map"] == "input of SR"]
    assert len(of_sky) == 320 and {int(r["pixels"]) for r in of_sky} == {sky}
    summary = rows(tmp_path / "channels_summary.csv")
    top = sorted((int(r["pixels_above_0.8"]) for r in of_sky), reverse=True)
    share = float(summary[0]["share_in_top_tenth_of_channels"])
    assert share == pytest.approx(sum(top[:32]) / sum(top), abs=1e-4)


def test_saliency_and_pca_of_one_image(srnet, small_camvid, tmp_path):
    image = small_camvid / "camvid" / "test" / "0000.png"
    for name in ("saliency", "pca"):
        done = srnet("figures", name, "--input", image, "--output", tmp_path)
        assert done.status == 0, done.err
        assert cv2.imread(str(tmp_path / f"{name}.png")).std() > 10
    nodes = rows(tmp_path / "saliency.csv")
    assert [int(r["node"]) for r in nodes] == list(range(16))
    assert all(int(r["channel"]) // 10 == int(r["node"]) for r in nodes)  # 160 channels
    positions = rows(tmp_path / "pca.csv")
    assert len(positions) == 2 * 3 * 3  # 96 x 72 pixels at stride 32, twice


def test_a_detector_and_one_of_its_modules(srnet, small_camvid, detector, tmp_path):
    words = ["--config-file", DETECTOR, "--input", small_camvid / "camvid" / "val", "--num", 1]
    words += ["--output", tmp_path, "MODEL.WEIGHTS", detector, "MODEL.CONTEXT.BLOCKS", "[]"]
    words += ["INPUT.MIN_SIZE_TEST", 64, "--module", "backbone.bottom_up.res5.0.context"]
    done = srnet("figures", "pca", *words)
    assert done.status == 0, done.err
    assert "res5.0.context of GeneralizedRCNN" in done.out
    before, after = (
        [r for r in rows(tmp_path / "pca.csv") if r["map"].startswith(kind)]
        for kind in ("input", "output")
    )
    # A fresh module is the identity.
    assert [r["component_1"] for r in before] == [r["component_1"] for r in after]


def test_a_sweep_and_a_table_of_speeds(srnet, tmp_path):
    (tmp_path / "table.csv").write_text("row,seed,metric,value\nk4,1,mIoU,60\nk8,1,mIoU,62\n")
    (tmp_path / "b.csv").write_text("row,seed,metric,value\nr2,1,mIoU,64\n")
    assert srnet("figures", "sweep", tmp_path, tmp_path / "b.csv").status == 0
    assert [r["mean"] for r in rows(tmp_path / "sweep.csv")] == ["60.0000", "62.0000", "64.0000"]
    (tmp_path / "models.csv").write_text("name,miou,fps\na,60,5\n")
    words = ["--table", tmp_path / "models.csv", "--size", "64x64", "--repeats", 1, "--warmup", 0]
    words += ["CamVid-SemanticSegmentation/lite0_SR", "--output", tmp_path]
    done = srnet("figures", "speed", *words)
    assert done.status == 0, done.err
    timed, given = rows(tmp_path / "speed.csv")
    assert (timed["name"], timed["miou"], timed["measured_here"]) == ("lite0_SR", "69.6100", "1")
    assert (given["fps"], given["measured_here"]) == ("5.0000", "0") and float(timed["fps"]) > 0
    assert (tmp_path / "sweep.png").stat().st_size and (tmp_path / "speed.png").stat().st_size


def test_the_papers_numbers_are_in_the_help(srnet):
    text = srnet("figures", "--help").out
    for number in ("1(a)", "2, 7 and 9 to 11", "4", "5(a)", "5(b)", "6", "8"):
        assert number in text
    assert "figures" in srnet("--help").out


IMAGES = ["--input", "camvid/test"]
WRONG = {
    "no SR": (
        ["channels", *IMAGES, "--config-file", "CamVid-SemanticSegmentation/lite0.yaml"],
        "the model has no Squeeze Reasoning module: choose a config with MODEL.CONTEXT.NAME sr",
    ),
    "no truth": (
        ["channels", "--input", "camvid/test/0000.png"],
        "these images have no label for each pixel",
    ),
    "a label is missing": (
        ["channels", *IMAGES, "--labels", "camvid"],
        "the image camvid/test/0000.png has no label 0000.png in camvid",
    ),
    "no folder of labels": (
        ["channels", *IMAGES, "--labels", "nowhere"],
        "--labels nowhere: there is no such folder",
    ),
    "an absent class": (
        ["channels", *IMAGES, "--classes", "Fence"],
        "--classes Fence: no pixel of these images has it",
    ),
    "an unknown class": (["channels", *IMAGES, "--classes", "Bus"], "--classes Bus: the classes"),
    "weights are missing": (
        ["pca", *IMAGES, "--config-file", "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"],
        "no weights: end the command with MODEL.WEIGHTS and a checkpoint",
    ),
    "an unknown module": (
        ["saliency", *IMAGES, "--module", "res5"],
        "the model has no module res5: choose one of sem_seg_head.context",
    ),
    "an unknown dataset": (["pca", "--dataset", "moon"], "no dataset 'moon' is registered"),
    "two sources": (["pca", *IMAGES, "--dataset", "x"], "--dataset x and --input are given"),
    "no table": (["sweep", "nowhere.csv"], "nowhere.csv is missing"),
    "no run": (["speed", "nowhere"], "nowhere is no folder of a run"),
    "no models": (["speed"], "no model is given"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_line(
    srnet, small_camvid, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(small_camvid)
    result = srnet("figures", *words, *(["--output", tmp_path] if words[0] != "sweep" else []))
    assert result.status == 1
    (line,) = [x for x in result.err.splitlines() if x.startswith("srnet: error:")]
    assert message in line
    assert not list(tmp_path.iterdir())
