"""Models whose random weights give predictions that can be told apart."""

import pytest
import torch
from srnet import build_model, get_cfg
from torch import nn

CLASS_STD = 0.01
CPU = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
PROPOSALS = ["MODEL.RPN.PRE_NMS_TOPK_TEST", 60, "MODEL.RPN.POST_NMS_TOPK_TEST", 30]
PROPOSALS += ["MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_BOX_HEAD.FC_DIM", 32]
PROPOSALS += ["MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [24], [32], [64]]]
PROPOSALS += ["MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "INPUT.MIN_SIZE_TEST", 96]
CASCADE = ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads"]
CASCADE += ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True]
STUFF = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 20]
CAMVID = "CamVid-{}/{}.yaml"
MODELS = {
    "dfnet_v1_SR": (CAMVID.format("SemanticSegmentation", "dfnet_v1_SR"), []),
    "srnet_R_50": (CAMVID.format("SemanticSegmentation", "srnet_R_50"), []),
    "resnet_18_SR": ("ImageNet-Classification/resnet_18_SR.yaml", []),
    "mask_rcnn_R_18_FPN_SR": (
        CAMVID.format("InstanceSegmentation", "mask_rcnn_R_18_FPN_SR"),
        PROPOSALS,
    ),
    "cascade_mask_rcnn_R_18_FPN_SR": (
        CAMVID.format("InstanceSegmentation", "mask_rcnn_R_18_FPN_SR"),
        [*PROPOSALS, *CASCADE],
    ),
    "panoptic_fpn_R_18_SR": (
        CAMVID.format("PanopticSegmentation", "panoptic_fpn_R_18_SR"),
        [*PROPOSALS, *STUFF],
    ),
}


def spread(model):
    """Random SR weights instead of the identity, and detections with distinct scores."""
    torch.manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith("conv2.norm.weight"):  # or maps grow from block to block
            nn.init.constant_(buffer, 0.2)
    for name, parameter in model.named_parameters():
        if ".context." in name:
            nn.init.normal_(parameter, std=0.05)
        elif name.endswith("cls_score.weight"):
            nn.init.normal_(parameter, std=CLASS_STD)
        elif name.endswith("cls_score.bias"):
            nn.init.zeros_(parameter)
            nn.init.constant_(parameter[-1], -30.0)  # no box is background
        elif name.endswith("objectness_logits.weight"):
            nn.init.normal_(parameter, std=0.1)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """models(name): the words of a config with its checkpoint, and the model in eval mode."""
    made, folder = {}, tmp_path_factory.mktemp("weights")

    def get(name):
        if name not in made:
            config, options = MODELS[name]
            torch.manual_seed(0)
            model = build_model(get_cfg(config, [*CPU, *options])).eval()
            with torch.no_grad():
                spread(model)
            torch.save({"model": model.state_dict()}, folder / f"{name}.pth")
            words = ["--config-file", config, *options, "MODEL.WEIGHTS", folder / f"{name}.pth"]
            made[name] = words, model
        return made[name]

    return get


@pytest.fixture(scope="session")
def pictures(small_camvid):
    """Two small images."""
    return sorted((small_camvid / "camvid" / "test").iterdir())[:2]
