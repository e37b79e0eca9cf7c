"""srnet.model_zoo, from inside and outside the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from srnet import get_cfg, model_zoo

PANOPTIC = "COCO-PanopticSegmentation/panoptic_fpn_R_50_SR_1x.yaml"
CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


def test_config_and_its_file(root):
    file = model_zoo.get_config_file(PANOPTIC)
    assert Path(file).samefile(root / "configs" / PANOPTIC)
    cfg = get_cfg(root / "configs" / PANOPTIC)
    assert model_zoo.get_config(PANOPTIC) == cfg
    assert cfg.MODEL.CONTEXT.NAME == "sr"


@pytest.mark.parametrize("function", [model_zoo.get_config_file, model_zoo.get_config])
def test_an_unknown_name_lists_the_nearest(function):
    with pytest.raises(RuntimeError, match="panoptic_fpn_R_50_SR_1x"):
        function("COCO-PanopticSegmentation/panoptic_fpn_R_50_SR.yaml")
    with pytest.raises(RuntimeError, match="not a config"):
        function("COCO-PanopticSegmentation")


@pytest.mark.parametrize("function", [model_zoo.get_config, model_zoo.get])
def test_weights_that_are_not_published(function):
    with pytest.raises(RuntimeError, match=f"no trained weights.*{CAMVID}"):
        function(CAMVID, trained=True)
    with pytest.raises(RuntimeError, match=r"detectron2://ImageNetPretrained/MSRA/R-50\.pkl"):
        model_zoo.get_checkpoint_url(PANOPTIC)


def test_finetune_configs_report_the_weights_of_detectron2_they_stand_on():
    from detectron2 import model_zoo as theirs

    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN"
    url = re.escape(theirs.get_checkpoint_url(f"{name}_3x.yaml"))
    with pytest.raises(RuntimeError, match=url):
        model_zoo.get_checkpoint_url(f"{name}_SR_finetune.yaml")


PROGRAM = f"""
import torch
from srnet import model_zoo
model = model_zoo.get("{PANOPTIC}", trained=False).eval()
image = torch.zeros(3, 64, 96)
with torch.no_grad():
    result = model([{{"image": image, "height": 64, "width": 96}}])[0]
print(*result, result["sem_seg"].shape, "SqueezeReasoning" in repr(model))
"""


def test_get_runs_elsewhere_and_without_a_network(tmp_path):
    """The weights cannot be fetched through a proxy that is not there: a warning, and a model."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    proxy = "http://127.0.0.1:9"
    environment |= {"http_proxy": proxy, "https_proxy": proxy, "FVCORE_CACHE": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    words = result.stdout.split("\n")[-2]
    assert words == "sem_seg instances panoptic_seg torch.Size([54, 64, 96]) True"
    assert "The model has random weights" in result.stdout + result.stderr
