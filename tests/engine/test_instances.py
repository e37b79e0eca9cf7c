"""SR Mask R-CNN and SR Panoptic FPN through train_net.py, on samples of real COCO."""

import json

import pytest
from coco_trees import link_coco_part, link_tinycoco, make_panoptic_coco

# Any score counts: a model that has hardly been trained finds something too.
QUICK = ["MODEL.RPN.POST_NMS_TOPK_TEST", 20, "INPUT.MIN_SIZE_TEST", 96]
QUICK += ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0]
INSTANCE = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
PANOPTIC = "quick_schedules/panoptic_fpn_R_18_SR.yaml"
# From random weights, the same few images over and over.
OVERFIT = ["INPUT.RANDOM_FLIP", "none", "SOLVER.BASE_LR", 0.02, "SOLVER.WARMUP_ITERS", 20]
OVERFIT += ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm"]
OVERFIT += ["SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 5.0, "INPUT.MIN_SIZE_TRAIN", "(192,)"]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.data
def test_mask_rcnn_trains_evaluates_and_resumes_on_two_processes(train_net, data_root, tmp_path):
    datasets = link_tinycoco(data_root, tmp_path / "datasets")
    output = tmp_path / "output"
    arguments = [datasets, INSTANCE, *QUICK]
    arguments += ["OUTPUT_DIR", output]
    train_net(*arguments, "SOLVER.MAX_ITER", 2)
    train_net(*arguments, "--resume", "--num-gpus=2", "SOLVER.MAX_ITER", 3)
    records = metrics(output)
    assert [r["iteration"] for r in records if "total_loss" in r] == [1, 2]
    final = {key for key in records[-1] if "/" in key}
    assert {"bbox/AP", "bbox/AP50", "segm/AP", "segm/AP-person"} <= final
    results = output / "inference" / "coco_instances_results.json"
    assert {"image_id", "bbox", "segmentation"} <= json.loads(results.read_text())[0].keys()


def test_cityscapes_instances_train_and_are_evaluated_on_two_processes(
    train_net, small_semantic, tmp_path
):
    slim = ["MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    slim += [
        "MODEL.CONTEXT.REDUCTION",
        4,
        "MODEL.FPN.OUT_CHANNELS",
        32,
        "INPUT.MIN_SIZE_TRAIN",
        "(96,)",
        *QUICK,
    ]
    config = "Cityscapes-InstanceSegmentation/mask_rcnn_R_50_FPN_SR.yaml"
    options = [*slim, "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 2]
    train_net(small_semantic, config, "--num-gpus=2", *options)
    assert {"loss_mask", "segm/AP", "segm/AP50"} <= {k for r in metrics(tmp_path) for k in r}


@pytest.mark.data
def test_panoptic_fpn_trains_and_is_evaluated_by_all_three(train_net, data_root, tmp_path):
    datasets = make_panoptic_coco(data_root, tmp_path / "datasets")
    output = tmp_path / "output"
    options = [*QUICK, "OUTPUT_DIR", output, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2]
    train_net(datasets, PANOPTIC, *options)
    final = metrics(output)[-1]
    wanted = {"bbox/AP", "segm/AP", "sem_seg/mIoU"}
    wanted |= {f"panoptic_seg/{m}{part}" for m in ("PQ", "SQ", "RQ") for part in ("", "_th", "_st")}
    assert wanted <= final.keys()


@pytest.mark.data
@pytest.mark.parametrize("config", [INSTANCE, PANOPTIC])
def test_lite0_with_an_fpn_trains_and_is_evaluated_on_real_coco(
    train_net, data_root, tmp_path, config
):
    """Both families of COCO on EfficientNet-Lite0, on a part of COCO with panoptic truth."""
    pytest.importorskip("timm")
    if not (data_root / "coco/annotations/panoptic_val2017.json").is_file():
        pytest.skip(f"needs COCO with panoptic truth in {data_root}/coco")
    datasets = link_coco_part(data_root, tmp_path / "datasets", 6)
    lite0 = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.WEIGHTS", ""]
    lite0 += ["MODEL.TIMM.NAME", "tf_efficientnet_lite0", "INPUT.MASK_FORMAT", "bitmask"]
    lite0 += ["MODEL.CONTEXT.REDUCTION", 4]  # of 320 channels
    output = tmp_path / "output"
    options = [*QUICK, *lite0, "OUTPUT_DIR", output, "SOLVER.MAX_ITER", 2]
    train_net(datasets, config, *options, "SOLVER.IMS_PER_BATCH", 2)
    final = metrics(output)[-1]
    wanted = {"bbox/AP", "segm/AP"}
    if config == PANOPTIC:
        wanted |= {"sem_seg/mIoU", "panoptic_seg/PQ", "panoptic_seg/PQ_th", "panoptic_seg/PQ_st"}
    assert wanted <= final.keys()
    assert all(0 <= final[key] <= 100 for key in wanted)


@pytest.mark.data
def test_panoptic_fpn_overfits_two_images(train_net, data_root, tmp_path):
    datasets = make_panoptic_coco(data_root, tmp_path / "datasets")
    output = tmp_path / "output"
    options = [*OVERFIT, "OUTPUT_DIR", output, "SOLVER.IMS_PER_BATCH", 2]
    options += ["SOLVER.MAX_ITER", 120, "SOLVER.STEPS", "(100,)"]
    train_net(datasets, PANOPTIC, *options, timeout=1500)
    records = metrics(output)
    losses = [record["total_loss"] for record in records if "total_loss" in record]
    assert losses[-1] < losses[0] / 2
    # Of 133 classes: by chance all of them are next to 0.
    assert records[-1]["panoptic_seg/PQ"] > 30
    assert records[-1]["panoptic_seg/PQ_th"] > 15
    assert records[-1]["bbox/AP"] > 20
    assert records[-1]["sem_seg/mIoU"] > 40


@pytest.mark.data
def test_mask_rcnn_overfits_crowded_images(train_net, data_root, tmp_path):
    datasets = link_tinycoco(data_root, tmp_path / "datasets")
    output = tmp_path / "output"
    # Six images with 136 instances of 16 classes: what a CPU learns by heart in minutes.
    options = [*OVERFIT, "OUTPUT_DIR", output, "DATASETS.TRAIN", "('coco_2017_val',)"]
    options += ["SOLVER.IMS_PER_BATCH", 3, "SOLVER.MAX_ITER", 160, "SOLVER.STEPS", "(130,)"]
    train_net(datasets, INSTANCE, *options, timeout=1500)
    records = metrics(output)
    losses = [record["total_loss"] for record in records if "total_loss" in record]
    assert losses[-1] < losses[0] * 0.65
    # A detector that has learnt nothing has an AP below 1.
    assert records[-1]["bbox/AP"] > 15
    assert records[-1]["segm/AP"] > 5
