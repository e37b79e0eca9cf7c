"""The ImageNet configs: the paper's recipe, and where the gates stand."""

import pytest
from srnet import get_cfg

MODELS = ["resnet_18", "resnet_50", "resnet_101", "resnext_50_32x4d", "resnext_101_32x4d"]
MODELS += ["dfnet_v1", "dfnet_v2"]


def load(name):
    return get_cfg(f"ImageNet-Classification/{name}.yaml")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gate", ["", "_SE", "_CBAM", "_SR"])
def test_every_network_has_every_gate(model, gate):
    """Section IV-E: in every stage, where SE stands."""
    context = load(f"{model}{gate}").MODEL.CONTEXT
    stages = (
        ["stage2", "stage3", "stage4"] if "dfnet" in model else ["res2", "res3", "res4", "res5"]
    )
    assert ("residual", stages, []) == (context.POSITION, context.STAGES, context.BLOCKS)


def test_the_recipe_of_section_iv_e():
    cfg = load("resnet_50_SR")
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
