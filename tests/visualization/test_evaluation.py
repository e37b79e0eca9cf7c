"""The pictures of an evaluation: what they show is what the predictions are."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from srnet import build_model, get_cfg
from srnet.data.read import read_image
from srnet.evaluation.results import (
    Confusion,
    of_classes,
    read_confusion,
    read_results,
    write_confusion,
    write_results,
)
from srnet.visualization.evaluation import draw_bars, draw_confusion, plot_evaluation

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
PIXELS = np.array([[90, 10, 0], [30, 60, 10], [0, 0, 0]])
CONFUSION = Confusion("streets", ["road", "car", "bus"], PIXELS)


def test_shares_are_of_the_true_class():
    shares = CONFUSION.shares()
    np.testing.assert_allclose(shares[:2], [[0.9, 0.1, 0], [0.3, 0.6, 0.1]])
    assert np.isnan(shares[2]).all()
    pairs = CONFUSION.most_confused(5)
    assert pairs[0] == ("car", "road", 0.3)
    assert {pair[:2] for pair in pairs[1:]} == {("road", "car"), ("car", "bus")}
    assert len(CONFUSION.most_confused(2)) == 2


def test_the_matrix_shows_shares_and_pairs():
    figure = draw_confusion(CONFUSION, CONFUSION.most_confused(3))
    axes, listing = figure.axes[:2]
    written = {t.get_position(): t.get_text() for t in axes.texts}
    assert written[(1, 0)] == "10" and written[(0, 1)] == "30"  # x is the prediction
    np.testing.assert_allclose(axes.images[0].get_array()[0], [90, 10, 0])
    assert " 30.0 %  car as road" in listing.texts[0].get_text()


@pytest.mark.parametrize("classes", [2, 60, 150])
def test_any_number_of_classes(classes, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(classes)]
    confusion = Confusion("many", names, rng.integers(0, 9, (classes, classes)))
    draw_confusion(confusion, confusion.most_confused(10)).savefig(tmp_path / "a.png", dpi=30)
    values = dict(zip(names, rng.uniform(0, 100, classes), strict=True))
    draw_bars("IoU", values, "a", values, "b").savefig(tmp_path / "b.png", dpi=30)
    assert (tmp_path / "b.png").stat().st_size > 1000


def test_bars_show_the_difference_to_the_other_run():
    figure = draw_bars("t", {"road": 90.0, "car": 40.0}, "ours", {"road": 80.0}, "theirs")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches[:2]] == [90.0, 40.0]
    assert [t.get_text() for t in axes.texts] == ["90.0 (+10.0)", "40.0"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["ours", "theirs"]


def test_the_ap_of_each_class_is_drawn_for_each_task(tmp_path):
    tasks = {
        task: {"AP": 30.0, "AP50": 50.0, "AP-cat": 20.0, "AP-t-shirt": 40.0, "AP-ox": float("nan")}
        for task in ("bbox", "segm")
    }
    assert of_classes(tasks)["bbox/AP"] == {"cat": 20.0, "t-shirt": 40.0}
    text = plot_evaluation(str(tmp_path), {"zoo": tasks})
    assert sorted(p.name for p in (tmp_path / "inference").iterdir()) == [
        "zoo_bbox_AP.png",
        "zoo_segm_AP.png",
    ]
    assert "zoo_segm_AP.png" in text


def test_accuracies_have_no_classes(tmp_path):
    text = plot_evaluation(str(tmp_path), {"pets": {"classification": {"top1": 1.0}}})
    assert "no results of single classes" in text


def test_results_come_back_as_they_were(tmp_path):
    results = {"a": {"bbox": {"AP": 1.5, "AP-x": float("nan")}}, "b": {"bbox": {"AP": 2.0}}}
    write_results(str(tmp_path / "inference"), results)
    assert read_results(tmp_path, "a") == {"bbox": {"AP": 1.5}}
    with pytest.raises(ValueError, match=r"results\.json has no results of c"):
        read_results(tmp_path, "c")
    with pytest.raises(FileNotFoundError, match=r"no inference/results\.json and no metrics\.json"):
        read_results(tmp_path / "x", "a")
    write_confusion(str(tmp_path), CONFUSION)
    back = read_confusion(tmp_path, "streets")
    assert back.classes == CONFUSION.classes and np.array_equal(back.pixels, PIXELS)
    (tmp_path / "streets_confusion.json").write_text("{}")
    with pytest.raises(ValueError, match=r"streets_confusion\.json is no confusion matrix"):
        read_confusion(tmp_path, "streets")


def test_the_results_of_a_training_serve_too(tmp_path):
    line = {"iteration": 9, "sem_seg/mIoU": 5.0, "sem_seg/IoU-road": 7.0}
    (tmp_path / "metrics.json").write_text(json.dumps(line))
    assert read_results(tmp_path, "camvid")["sem_seg"]["IoU-road"] == 7.0
    line = {"iteration": 9, "a/sem_seg/IoU-road": 5.0, "b/sem_seg/IoU-road": 6.0}
    (tmp_path / "metrics.json").write_text(json.dumps(line))
    assert read_results(tmp_path, "b") == {"sem_seg": {"IoU-road": 6.0}}


def test_eval_draws_what_was_predicted(small_camvid, tmp_path):
    torch.manual_seed(0)
    cfg = get_cfg(CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    model = build_model(cfg).eval()
    weights = tmp_path / "model.pth"
    torch.save({"model": model.state_dict()}, weights)
    other = tmp_path / "other"
    write_results(str(other / "inference"), {"camvid_sem_seg_val": {"sem_seg": {"IoU-Sky": 12.0}}})
    output = tmp_path / "ours"
    opts = ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", output, "DATALOADER.NUM_WORKERS", 0]
    opts += ["DATASETS.TEST", "('camvid_sem_seg_val',)", "MODEL.DEVICE", "cpu"]
    words = ["eval", "--config-file", CONFIG, *opts, "--plots", "--against", other]
    result = subprocess.run(
        [sys.executable, "-m", "srnet", *map(str, words), "--num-gpus", "2"],
        env={**os.environ, "DETECTRON2_DATASETS": str(small_camvid), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    folder = output / "inference"
    for name in ("confusion", "sem_seg_IoU"):
        with Image.open(folder / f"camvid_sem_seg_val_{name}.png") as picture:
            assert min(picture.size) > 300
    expected = np.zeros((11, 11), int)
    for i in range(3):
        image = read_image(small_camvid / "camvid/val" / f"{i:04d}.png", cfg.INPUT.FORMAT)
        label = np.asarray(Image.open(small_camvid / "camvid/valannot" / f"{i:04d}.png"))
        with torch.no_grad():
            (found,) = model([{"image": torch.tensor(image.transpose(2, 0, 1)).float()}])
        predicted = found["sem_seg"].argmax(0).numpy()
        labelled = label < 11
        np.add.at(expected, (label[labelled], predicted[labelled]), 1)
    assert np.array_equal(read_confusion(folder, "camvid_sem_seg_val").pixels, expected)
    iou = read_results(output, "camvid_sem_seg_val")["sem_seg"]["IoU-Sky"]
    hit = expected[0, 0]
    assert iou == pytest.approx(100 * hit / (expected[0].sum() + expected[:, 0].sum() - hit))


def test_against_is_looked_at_before_the_evaluation(srnet, tmp_path):
    words = ["eval", "--config-file", CONFIG, "--against", tmp_path]
    result = srnet(*words)
    assert result.status == 1 and "needs --plots" in result.err
    result = srnet(*words, "--plots")
    assert result.status == 1 and "there is neither" in result.err
    assert result.err.count("\n") == 1
