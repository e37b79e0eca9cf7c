"""The ImageNet configs: the paper's recipe, and twins that differ in the gate alone."""

import pytest
from config_nodes import flatten
from srnet import get_cfg

MODELS = ["resnet_18", "resnet_50", "resnet_101", "resnext_50_32x4d", "resnext_101_32x4d"]
MODELS += ["dfnet_v1", "dfnet_v2"]
GATES = {"SE": "se", "CBAM": "cbam", "SR": "sr_gate"}


def load(root, name):
    return get_cfg(str(root / "configs" / "ImageNet-Classification" / f"{name}.yaml"))


@pytest.mark.parametrize("model", MODELS)
def test_twins_differ_in_the_gate_alone(root, model):
    plain = dict(flatten(load(root, model)))
    for suffix, gate in GATES.items():
        twin = dict(flatten(load(root, f"{model}_{suffix}")))
        differing = {key for key in plain if plain[key] != twin[key]} - {"OUTPUT_DIR"}
        assert differing == {"MODEL.CONTEXT.NAME"} and twin["MODEL.CONTEXT.NAME"] == gate


def test_the_recipe_of_section_iv_e(root):
    cfg = load(root, "resnet_50_SR")
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.MOMENTUM, solver.LR_SCHEDULER_NAME) == (
        256,
        0.9,
        "WarmupCosineLR",
    )
    assert solver.WEIGHT_DECAY == solver.WEIGHT_DECAY_NORM == 1e-4 and solver.WARMUP_ITERS > 0
    crops = cfg.INPUT.CLASSIFICATION
    assert (crops.SIZE, crops.RESIZE_TEST, crops.SIZE_TEST) == (224, 256, 224)
    assert cfg.DATASETS.TRAIN == ("imagenet_train",) and cfg.DATASETS.TEST == ("imagenet_val",)
    assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1 and cfg.MODEL.RESNETS.NORM == "BN"
