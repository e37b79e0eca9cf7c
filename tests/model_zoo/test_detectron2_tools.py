"""Detectron2's own scripts, predictor and export on this project's configs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_trees import draw_coco
from detectron2.engine import DefaultPredictor
from detectron2.export import TracingAdapter
from srnet import build_model, get_cfg
from srnet.model_zoo import get_config_file

SCRIPTS = Path(sys.prefix) / "share" / "detectron2" / "tools"
CONFIG = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
# The one line of GETTING_STARTED.
LINE = "from srnet import add_srnet_config; add_srnet_config(cfg)"
SMALL = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2]
SMALL += ["INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", 96, "SOLVER.MAX_ITER", 2]
SMALL += ["MODEL.RPN.POST_NMS_TOPK_TEST", 20, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    return draw_coco(tmp_path_factory.mktemp("datasets"))


@pytest.fixture
def command(datasets, tmp_path):
    """Write a script of Detectron2's with the documented line; its command and environment."""

    def make(name, *arguments):
        if not (SCRIPTS / name).exists():
            pytest.skip(f"{SCRIPTS / name} is missing: requirements/install.py puts it there")
        before, after = "cfg = get_cfg()\n", f"cfg = get_cfg(); {LINE}\n"
        source = (SCRIPTS / name).read_text()
        assert source.count(before) == 1
        (tmp_path / name).write_text(source.replace(before, after))
        words = [sys.executable, tmp_path / name, "--config-file", get_config_file(CONFIG)]
        environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
        words = [str(word) for word in (*words, *arguments, *SMALL)]
        return {"args": words, "env": environment, "cwd": tmp_path}

    return make


def run(command):
    result = subprocess.run(**command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.mark.parametrize("name", ["train_net.py", "plain_train_net.py"])
def test_training_and_evaluation(command, tmp_path, name):
    output = ["OUTPUT_DIR", tmp_path / "output"]
    run(command(name, *output))
    weights = tmp_path / "output" / "model_final.pth"
    state = torch.load(weights, weights_only=False)["model"]
    trained = state["backbone.bottom_up.res5.1.context.conv_r.weight"]
    assert trained.abs().max() > 0  # it starts at zero
    text = run(command(name, "--eval-only", *output, "MODEL.WEIGHTS", weights))
    assert "Task: segm" in text and "Skip loading" not in text


def test_analysis(command):
    few = ["--num-inputs", 1]
    text = run(command("analyze_model.py", "--tasks", "parameter", "structure", *few))
    assert "(context): SqueezeReasoning(" in text
    assert "backbone.bottom_up.res5.1.context" in text
    text = run(command("analyze_model.py", "--tasks", "flop", *few))
    assert "Total GFlops" in text and "backbone.bottom_up.res5" in text


def test_annotations_are_drawn(command, tmp_path):
    flags = ["--source", "annotation", "--output-dir", tmp_path / "drawn"]
    run(command("visualize_data.py", *flags))
    assert len(list((tmp_path / "drawn").glob("*.jpg"))) == 4


def test_batches_are_drawn(command, tmp_path):
    """The script draws without end."""
    flags = ["--source", "dataloader", "--output-dir", tmp_path / "drawn"]
    arguments = command("visualize_data.py", *flags)
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(**arguments, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            if len(list((tmp_path / "drawn").glob("*.jpg"))) == 4:
                return
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    pytest.fail((tmp_path / "log").read_text()[-3000:])


FAMILIES = {
    "semantic": ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", []),
    "instance": (CONFIG, SMALL),
    "panoptic": ("quick_schedules/panoptic_fpn_R_18_SR.yaml", SMALL),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", []),
}


def family(name, *opts):
    config, options = FAMILIES[name]
    return get_cfg(config, ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", *options, *opts])


IMAGE = np.random.default_rng(0).integers(0, 256, (100, 140, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("semantic", {"sem_seg": (11, 100, 140)}),
        ("instance", {"instances": None}),
        ("panoptic", {"instances": None, "sem_seg": (54, 100, 140), "panoptic_seg": None}),
        ("classifier", {"logits": (1000,)}),
    ],
)
def test_the_predictor_takes_every_family(name, expected):
    torch.manual_seed(0)
    found = DefaultPredictor(family(name))(IMAGE)
    assert found.keys() == expected.keys()
    for key, shape in expected.items():
        if shape is not None:
            assert tuple(found[key].shape) == shape and found[key].isfinite().all()
    if "instances" in expected:
        assert found["instances"].image_size == (100, 140)
    if "panoptic_seg" in expected:
        assert tuple(found["panoptic_seg"][0].shape) == (100, 140)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ["semantic", "instance", "panoptic", "classifier"])
def test_tracing(name):
    torch.manual_seed(0)
    model = build_model(family(name)).eval()
    for module in model.modules():  # random weights must leave the features in bounds
        if hasattr(module, "running_var") and module.running_var is not None:
            module.running_var.fill_(2.0)
    image = torch.as_tensor(IMAGE[:96, :128].transpose(2, 0, 1).astype("float32"))

    def infer(model, inputs):
        if name == "instance":  # as Detectron2's export_model does it
            return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]
        if name == "panoptic":  # segments with their classes are Python dicts: no tensors
            return model.inference(inputs, do_postprocess=False)
        return model(inputs)

    adapter = TracingAdapter(model, [{"image": image}], infer)
    traced = torch.jit.trace(adapter, adapter.flattened_inputs, check_trace=False)
    other = image.flip(2)
    with torch.no_grad():
        expected = adapter(other)
        found = traced(other)
    assert len(expected) == len(found)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
