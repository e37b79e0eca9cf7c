"""One config or two of each family, for the tests on a GPU and on one that is not there."""

import torch

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CAMVID = "CamVid-SemanticSegmentation"
SEMANTIC = {
    "DF-Seg": f"{CAMVID}/dfnet_v1.yaml",
    "DF-Seg with SR": f"{CAMVID}/dfnet_v1_SR.yaml",
    "FCN": "Cityscapes-SemanticSegmentation/fcn_R_50.yaml",
    "FCN with SR": "Cityscapes-SemanticSegmentation/srnet_R_50.yaml",
}
CLASSIFIERS = {
    "ResNet": "ImageNet-Classification/resnet_18.yaml",
    "ResNet with SR": "ImageNet-Classification/resnet_18_SR.yaml",
    "DFNet with SR": "ImageNet-Classification/dfnet_v1_SR.yaml",
}
DETECTORS = {
    "Mask R-CNN": "quick_schedules/mask_rcnn_R_18_FPN.yaml",
    "Mask R-CNN with SR": "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml",
    "Panoptic FPN": "quick_schedules/panoptic_fpn_R_18.yaml",
    "Panoptic FPN with SR": "quick_schedules/panoptic_fpn_R_18_SR.yaml",
}
