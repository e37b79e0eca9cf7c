"""The validation loss: what it is, and that a training does not notice it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from srnet import build_model, get_cfg
from srnet.data import build_validation_loader, register_all_camvid
from srnet.data.read import read_image, read_label
from srnet.engine import Trainer, close_process_groups
from srnet.engine.validation import validation_losses

SEMANTIC = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
COMMON = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 4,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.EVAL_PERIOD": 0,
    "SEED": 1,
}
CAMVID = {
    # Asymmetric non-local attention has dropout.
    "MODEL.CONTEXT.NAME": "ann",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "INPUT.CROP.SIZE": "[64,64]",
    "INPUT.MIN_SIZE_TRAIN": "(48,96)",
    "DATASETS.TEST": "('camvid_sem_seg_val',)",
}
DETECTOR = {"INPUT.MIN_SIZE_TRAIN": "(96,)", "INPUT.MAX_SIZE_TRAIN": 128}
DETECTOR |= {"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": 128}
CLASSIFIER = {
    "MODEL.CLASSIFIER.NUM_CLASSES": 2,
    "INPUT.CLASSIFICATION.SIZE": 32,
    "INPUT.CLASSIFICATION.RESIZE_TEST": 36,
    "INPUT.CLASSIFICATION.SIZE_TEST": 32,
    "INPUT.CLASSIFICATION.BATCH_TEST": 2,
    "INPUT.CLASSIFICATION.MIXUP": 0.2,
    "DATASETS.IMAGE_FOLDER_TRAIN": "classes",
    "DATASETS.IMAGE_FOLDER_TEST": "classes",
}
FAMILIES = {
    "semantic": (SEMANTIC, CAMVID),
    "classifier": ("ImageNet-Classification/resnet_18_SR.yaml", CLASSIFIER),
    "mask_rcnn": ("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", DETECTOR),
    "panoptic": ("quick_schedules/panoptic_fpn_R_18_SR.yaml", DETECTOR),
}


@pytest.fixture(scope="module")
def camvid(small_camvid, datasets_forgotten):
    with datasets_forgotten("camvid"):
        register_all_camvid(str(small_camvid))
        yield


def words(*nodes, **more):
    chosen = {k: v for node in (*nodes, more) for k, v in node.items()}
    return [str(x) for item in chosen.items() for x in item]


def config(folder, **more):
    return get_cfg(SEMANTIC, words(COMMON, CAMVID, **{"OUTPUT_DIR": folder, **more}))


def curve(folder, name):
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return {line["iteration"]: line[name] for line in lines if name in line}


def test_it_is_the_loss_of_the_network_as_it_is_evaluated(camvid, tmp_path):
    cfg = config(tmp_path)
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():  # other statistics than a batch's
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(0.1)
    found = validation_losses(model, build_validation_loader(cfg, "camvid_sem_seg_val"))
    expected = []
    model.eval()
    from detectron2.data import DatasetCatalog

    for record in DatasetCatalog.get("camvid_sem_seg_val"):
        image = read_image(record["file_name"], cfg.INPUT.FORMAT).transpose(2, 0, 1)
        label = torch.tensor(read_label(record["sem_seg_file_name"], 11, 11))
        with torch.no_grad():
            (output,) = model([{"image": torch.tensor(np.ascontiguousarray(image)).float()}])
        logits = output["sem_seg"][None].float()
        expected.append(F.cross_entropy(logits, label[None], ignore_index=11).item())
    assert found["total_loss"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert list(found) == ["total_loss", "loss_sem_seg"]


@pytest.mark.parametrize("more", [{}, {"SOLVER.EMA.ENABLED": True}], ids=["plain", "ema"])
def test_a_training_is_the_same_with_and_without_it(camvid, tmp_path, more):
    finals = []
    for name, period in (("with", 1), ("without", 0)):
        chosen = {**more, "TEST.VALIDATION_LOSS.PERIOD": period}
        torch.manual_seed(0)
        trainer = Trainer(config(tmp_path / name, **chosen))
        trainer.train()
        state = torch.load(tmp_path / name / "model_final.pth", weights_only=True)
        finals.append((state["model"], state["trainer"]["_trainer"]["optimizer"]["state"]))
    (weights, moments), (others, other_moments) = finals
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert all(
        torch.equal(m["momentum_buffer"], other_moments[i]["momentum_buffer"])
        for i, m in moments.items()
    )
    with_it = curve(tmp_path / "with", "total_loss")
    assert with_it == curve(tmp_path / "without", "total_loss")
    # Every iteration is measured; the file has the last of those between two lines.
    assert list(curve(tmp_path / "with", "validation/total_loss")) == [3]


def test_model_and_random_numbers_are_as_before(camvid, tmp_path):
    cfg = config(tmp_path)
    model = build_model(cfg).train()
    model.backbone.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    loader = build_validation_loader(cfg, "camvid_sem_seg_val")
    first = validation_losses(model, loader)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(numbers[0], torch.get_rng_state())
    assert np.array_equal(numbers[1], np.random.get_state()[1])
    torch.manual_seed(5)
    assert validation_losses(model.eval(), loader) == first


def test_the_average_is_measured_where_there_is_one(camvid, tmp_path):
    more = {"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.9, "TEST.VALIDATION_LOSS.PERIOD": 4}
    trainer = Trainer(config(tmp_path, **more))
    trainer.train()
    (value,) = curve(tmp_path, "validation/total_loss").values()
    loader = build_validation_loader(trainer.cfg, "camvid_sem_seg_val")
    assert validation_losses(trainer.average.model, loader)["total_loss"] == value
    assert validation_losses(trainer.model, loader)["total_loss"] != value


def test_a_void_image_is_left_out(camvid, tmp_path):
    class Losing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, batch):
            return {"loss": self.weight * batch[0]["value"]}

    items = [[{"file_name": str(v), "value": v}] for v in (1.0, float("nan"), 4.0)]
    assert validation_losses(Losing(), items) == {"total_loss": 2.5, "loss": 2.5}
    assert np.isnan(validation_losses(Losing(), items[1:2])["total_loss"])


def test_the_best_checkpoint_may_go_by_it(camvid, tmp_path):
    more = {
        "TEST.VALIDATION_LOSS.PERIOD": 2,
        "TEST.VALIDATION_LOSS.DATASET": "camvid_sem_seg_test",
        "TEST.BEST_CHECKPOINT.METRIC": "validation/total_loss",
        "TEST.BEST_CHECKPOINT.MODE": "min",
        "DATASETS.TEST": "()",
    }
    Trainer(config(tmp_path, **more)).train()
    record = json.loads((tmp_path / "model_best.json").read_text())
    assert [i for i, _ in record["evaluations"]] == [1, 3]
    assert record["best"] == min(value for _, value in record["evaluations"])
    assert (tmp_path / "model_best.pth").is_file()


@close_process_groups
def measure(output, runs):
    torch.set_num_threads(1)
    from detectron2.utils import comm

    found = {}
    for family, opts in runs.items():
        cfg = get_cfg(FAMILIES[family][0], opts)
        torch.manual_seed(0)
        model = build_model(cfg)
        loader = build_validation_loader(cfg, cfg.DATASETS.TEST[0])
        found[family] = validation_losses(model.train(), loader)
    if comm.is_main_process():
        with open(output, "w") as file:
            json.dump(found, file)


@pytest.mark.data
def test_every_family_has_one_the_same_on_two_processes(
    small_camvid, data_root, tmp_path_factory, tmp_path
):
    from coco_trees import make_panoptic_coco
    from PIL import Image

    base = tmp_path_factory.mktemp("trees")
    (base / "camvid").symlink_to(small_camvid / "camvid")
    rng = np.random.default_rng(0)
    for name in "ab":
        (base / "classes" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(base / "classes" / name / f"{i}.png")
    make_panoptic_coco(data_root, base)
    runs = {name: words(COMMON, node) for name, (_, node) in FAMILIES.items()}
    results = []
    for processes in (1, 2):
        output = tmp_path / f"{processes}.json"
        result = subprocess.run(
            [sys.executable, __file__, str(processes), output, json.dumps(runs)],
            env={**os.environ, "DETECTRON2_DATASETS": str(base), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        results.append(json.loads(output.read_text()))
    one, two = results
    assert list(one) == list(FAMILIES)
    for family, losses in one.items():
        assert all(np.isfinite(value) for value in losses.values()), family
        assert two[family] == pytest.approx(losses, rel=1e-6), family
    assert {"loss_cls", "loss_mask", "loss_rpn_cls"} <= set(one["mask_rcnn"])
    assert {"loss_sem_seg", "loss_mask"} <= set(one["panoptic"])


if __name__ == "__main__":
    from detectron2.engine import launch

    launch(measure, int(sys.argv[1]), dist_url="auto", args=(sys.argv[2], json.loads(sys.argv[3])))
