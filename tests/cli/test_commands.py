"""Each subcommand does what its options say."""

import csv
import json
import os
import subprocess
import sys

import cv2
import pytest
import torch
import torchvision
from srnet import build_model, get_cfg

CAMVID = "CamVid-SemanticSegmentation"
CITYSCAPES = "Cityscapes-SemanticSegmentation"


def test_analyze_prints_and_writes_its_table(srnet, tmp_path):
    path = tmp_path / "table.md"
    config = f"{CAMVID}/dfnet_v1.yaml"
    result = srnet("analyze", "--config-file", config, "--size", "64x96", "--output", path)
    assert result.status == 0, result.err
    assert result.out.startswith("64 x 96 (height x width):")
    assert path.read_text() == result.out


def test_analyze_compares_a_file_with_a_name(srnet, root, cells_of):
    first = root / "configs" / CAMVID / "dfnet_v1.yaml"
    words = ["--compare", f"{CAMVID}/dfnet_v1_SR.yaml", "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32]
    result = srnet("analyze", "--config-file", first, *words, "--size", "64x96")
    assert result.status == 0, result.err
    rows = [row[:2] for row in cells_of(result.out)]
    assert ["difference", "context modules"] in rows and ["dfnet_v1", "backbone"] not in rows


def test_latency_of_two_models(srnet, tmp_path):
    names = [f"{CITYSCAPES}/dfnet_v1{tail}.yaml" for tail in ("", "_SR")]
    words = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "--size", "64x128", "--warmup", 1]
    words += ["--repeats", 3, "--device", "cpu", "--threads", 1, "--json", tmp_path / "times.json"]
    result = srnet("benchmark", "latency", "--config-file", names[0], "--compare", names[1], *words)
    assert result.status == 0, result.err
    assert "64 x 128, batch 1, fp32; 3 runs each" in result.out
    assert "FPS of the second to the first" in result.out
    times = json.loads((tmp_path / "times.json").read_text())
    assert [len(times[name]) for name in names] == [3, 3]


def slide(srnet, *options, config=f"{CAMVID}/dfnet_v1_SR.yaml"):
    words = ["--config-file", config, "--size", "80x96", "--device", "cpu", "--threads", 1]
    return srnet("benchmark", "sliding", *words, *options)


def test_sliding_windows_against_the_plain_loop(srnet, cells_of):
    result = slide(srnet, "--window", "64x64", "--stride", "43x43", "--repeats", 2)
    assert result.status == 0, result.err
    assert [row[0] for row in cells_of(result.out)][2:] == ["plain loop", "SemanticInference"]
    assert "FPS of the second to the first" in result.out


def test_sliding_windows_that_cannot_be(srnet):
    result = slide(srnet)
    assert result.status == 1 and "Traceback" not in result.err
    assert "the window 769x769 is larger than the image 80x96" in result.err
    detector = "quick_schedules/mask_rcnn_R_18_FPN.yaml"
    result = slide(srnet, "--window", "64x64", config=detector)
    assert result.status == 1 and "no semantic model" in result.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there(srnet):
    result = slide(srnet, "--device", "cuda")
    assert result.status == 1 and "--device cuda: no GPU is available" in result.err


def test_modules(srnet, cells_of, tmp_path):
    words = ["--size", "8x8", "4x6", "--channels", 32, "--modules", "sr ghp", "se"]
    words += ["--repeats", 2, "--dtype", "bf16", "--device", "cpu"]
    words += ["--csv", tmp_path / "m.csv", "--plot", tmp_path / "m.png"]
    result = srnet("benchmark", "modules", *words)
    assert result.status == 0, result.err
    assert ["se", "8 x 8", "forward"] in [row[:3] for row in cells_of(result.out)]
    with open(tmp_path / "m.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and float(rows[0]["median"]) > 0
    assert (tmp_path / "m.png").stat().st_size > 5000


def test_too_little_memory_is_a_row(cells_of):
    """In a process of its own, whose memory is not full of what other tests left."""
    words = "benchmark modules --modules gc nl --size 128x128 --channels 16 --forward-only"
    words += " --repeats 1 --memory 0.3 --device cpu --threads 1"
    command = [sys.executable, "-m", "srnet", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Non-local's 16384 x 16384 weights, if they are formed, are 1 GB.
    rows = {row[0]: row[1:4] for row in cells_of(done.stdout)}
    assert rows["gc"][:2] == ["128 x 128", "forward"] and float(rows["gc"][2]) > 0
    assert rows["nl"][2] == "out of memory" or float(rows["nl"][2]) > 0


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--size", "8by8"], 2, "is not HxW"),
        (["--modules", "none"], 1, "with --head"),
        (["--modules", "nosuch"], 2, "invalid choice"),
        (["--repeats", "0"], 2, "at least 1"),
    ],
)
def test_bad_arguments_of_modules(srnet, options, status, words):
    result = srnet("benchmark", "modules", *options)
    assert result.status == status and words in result.err


def test_loading_is_measured_for_classifiers(srnet):
    result = srnet("benchmark", "loading", "--config-file", f"{CAMVID}/dfnet_v1_SR.yaml")
    assert result.status == 1 and "is SRSemanticSegmentor" in result.err


def test_convert_published_weights(srnet, tmp_path):
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), source)
    result = srnet("convert", "resnet", source, target)
    # All but the classifier of 512 x 1000 and the 20 counters of batches.
    kept = sum(p.numel() for p in model.state_dict().values()) - 513_000 - 20
    assert result.status == 0 and f"{kept / 1e6:.2f} M parameters" in result.out
    assert "stem.conv1.weight" in torch.load(target, weights_only=True)["model"]
    result = srnet("convert", "dfnet", tmp_path / "none.pth", target)
    assert result.status == 1 and len(result.err.splitlines()) == 1
    assert result.err.startswith("srnet: error:") and "none.pth" in result.err


def test_convert_a_classifier_says_what_it_needs(srnet, tmp_path):
    cfg = get_cfg("ImageNet-Classification/resnet_18_SR.yaml", ["DATASETS.TRAIN", ()])
    torch.save({"model": build_model(cfg).state_dict()}, tmp_path / "in.pth")
    result = srnet("convert", "backbone", tmp_path / "in.pth", tmp_path / "out.pth")
    assert result.status == 0 and "116 tensors, 8 of them weights of gates" in result.out
    assert "MODEL.PIXEL_MEAN" in result.out and "STRIDE_IN_1X1 False" in result.out
    result = srnet("convert", "backbone", tmp_path / "in.pth", tmp_path / "x.pth", "--average")
    assert result.status == 1 and "no averaged weights" in result.err


def test_visualize_draws_images(small_camvid, tmp_path):
    config, weights = f"{CAMVID}/dfnet_v1_SR.yaml", tmp_path / "model.pth"
    torch.save({"model": build_model(get_cfg(config)).state_dict()}, weights)
    images = sorted((small_camvid / "camvid" / "val").iterdir())[:2]
    words = ["--config-file", config, "--input", *images, "MODEL.WEIGHTS", weights]
    command = [sys.executable, "-m", "srnet", "visualize", *words, "--output", tmp_path / "out"]
    result = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, "DETECTRON2_DATASETS": str(small_camvid)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "2 images in" in result.stdout
    names = {f"{path.stem}.png" for path in images} | {"sheet.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert cv2.imread(str(tmp_path / "out" / "sheet.png")).std() > 10


def test_visualize_compares_models(srnet, small_camvid, tmp_path):
    config = f"{CAMVID}/dfnet_v1_SR.yaml"
    for name, other in (("a", config), ("b", f"{CAMVID}/dfnet_v1.yaml")):
        model = build_model(get_cfg(other))
        torch.save({"model": model.state_dict()}, tmp_path / f"{name}.pth")
    image = small_camvid / "camvid" / "val" / "0000.png"
    words = ["--config-file", config, "--compare", f"{CAMVID}/dfnet_v1.yaml", tmp_path / "b.pth"]
    words += ["--input", image, "MODEL.WEIGHTS", tmp_path / "a.pth", "--output", tmp_path / "out"]
    result = srnet("visualize", *words)
    assert result.status == 0, result.err
    height, width = cv2.imread(str(tmp_path / "out" / "0000.png")).shape[:2]
    assert width > 2.5 * height  # image and two predictions, 96 x 72 each


def test_predict_is_measured_beside_the_network(srnet):
    words = ["--size", "48x64", "--images", 3, "--rounds", 2, "--device", "cpu", "--threads", 1]
    result = srnet("benchmark", "predict", "--config-file", f"{CAMVID}/dfnet_v1_SR.yaml", *words)
    assert result.status == 0, result.err
    names = [line.split(":")[0] for line in result.out.splitlines()]
    assert names == ["network alone", "srnet predict", "ratio, the median of 2 rounds"]


def test_submit_needs_a_config_or_predictions(srnet, tmp_path):
    for words in ([], ["--config-file", "a", "--predictions", tmp_path]):
        result = srnet("submit", "cityscapes", *words)
        assert result.status == 1 and "either --config-file or --predictions" in result.err
    result = srnet("submit", "cityscapes", "--predictions", tmp_path)
    assert result.status == 1 and "--predictions needs --output" in result.err


def test_train_and_eval_from_anywhere(srnet, small_camvid, tmp_path):
    """Outside the checkout, by a zoo name; with an option after the keys."""

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "srnet", *map(str, words)],
            env={**os.environ, "DETECTRON2_DATASETS": str(small_camvid), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    words = ["--config-file", f"{CAMVID}/dfnet_v1_SR.yaml", "INPUT.CROP.SIZE", "[64,64]"]
    words += ["INPUT.MIN_SIZE_TRAIN", "(48,96)", "SOLVER.IMS_PER_BATCH", 4]
    words += ["DATALOADER.NUM_WORKERS", 0, "DATASETS.TEST", "('camvid_sem_seg_val',)"]
    trained = run("train", *words, "SOLVER.MAX_ITER", 2)
    assert trained.returncode == 0, trained.stderr[-3000:]
    folder = tmp_path / "output" / "camvid_dfnet_v1_SR"
    words += ["MODEL.WEIGHTS", folder / "model_final.pth", "--num-gpus", 1]
    evaluated = run("eval", *words, "OUTPUT_DIR", tmp_path / "eval")
    assert evaluated.returncode == 0, evaluated.stderr[-3000:]
    name = "inference/camvid_sem_seg_val_iou.json"
    assert (tmp_path / "eval" / name).read_text() == (folder / name).read_text()
    table = srnet("compare", folder, tmp_path / "eval")
    assert table.status == 0 and "| mean" in table.out
