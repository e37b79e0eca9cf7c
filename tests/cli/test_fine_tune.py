"""The commands of GETTING_STARTED's "Fine-tune" and "Look at a training", at a tiny size."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch
from srnet import build_model, get_cfg

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "DATALOADER.NUM_WORKERS": 0,
}
TINY_TRAINING = {
    "INPUT.CROP.SIZE": "[64,64]",
    "INPUT.MIN_SIZE_TRAIN": "(48,96)",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 4,
    "TEST.EVAL_PERIOD": 2,
    "TEST.VALIDATION_LOSS.PERIOD": 2,
}
SCORED = {"OUTPUT_DIR": "output/scored", "DATASETS.TEST": "('camvid_sem_seg_val',)"}


def documented(root, section):
    """The commands of a section, each as a list of words."""
    text = (root / "GETTING_STARTED.md").read_text()
    text = text.partition(f"## {section}\n")[2].partition("\n## ")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (srnet .*)$", text, re.M)]


def with_opts(words, opts):
    pairs = [str(x) for item in opts.items() for x in item]
    return [*words, *pairs]  # the last value of a key counts


@pytest.fixture(scope="module")
def commands(root, small_camvid, tmp_path_factory):
    """Run all commands in an empty folder, in their order; the folder and what they printed."""
    folder = tmp_path_factory.mktemp("user")
    torch.manual_seed(0)
    (folder / "output" / "other").mkdir(parents=True)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "16", "DATASETS.TRAIN", "()"]
    opts += ["DATASETS.TEST", "()", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "19"]
    other = get_cfg(CONFIG, opts)
    torch.save({"model": build_model(other).state_dict()}, folder / "output/other/model_final.pth")
    printed = {}
    baselines = {"camvid_dfnet_v1": 0.5, "camvid_dfnet_v1_SR": 0.4}
    for name, loss in baselines.items():
        (folder / "output" / name).mkdir()
        line = {"iteration": 19, "total_loss": loss, "sem_seg/mIoU": 5.0, "sem_seg/IoU-Sky": 9.0}
        (folder / "output" / name / "metrics.json").write_text(json.dumps(line) + "\n")
    for section in ("Fine-tune", "Look at a training"):
        for words in documented(root, section):
            if words[1] == "train":
                words = with_opts(words, {**TINY, **TINY_TRAINING})
            elif words[1] == "eval":
                words = with_opts(words, {**TINY, **SCORED})
            result = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=folder,
                env={
                    **os.environ,
                    "DETECTRON2_DATASETS": str(small_camvid),
                    "OMP_NUM_THREADS": "1",
                },
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, result.stderr[-3000:]
            printed.setdefault(words[1], []).append(result.stdout)
    return folder / "output", printed


def test_the_training_takes_what_fits_and_keeps_the_best(commands, cells_of):
    folder, printed = commands
    table = {row[0]: row[1:] for row in cells_of(printed["train"][0])}
    assert table["part"][:3] == ["loaded", "new (random)", "left over"]
    assert table["sem_seg_head"][1] == "2" and "(19," in table["sem_seg_head"][3]
    assert all(row[1] == "0" for name, row in table.items() if name.startswith("backbone"))
    record = json.loads((folder / "fine" / "model_best.json").read_text())
    assert [i for i, _ in record["evaluations"]] == [1, 3]
    assert (folder / "fine" / "model_best.pth").is_file()
    lines = map(json.loads, (folder / "fine" / "metrics.json").read_text().splitlines())
    both = {"total_loss", "validation/total_loss"}
    assert [x["iteration"] for x in lines if both <= set(x)] == [3]


def test_frozen_stages_are_those_of_the_file(commands):
    folder, _ = commands
    before, after = (
        torch.load(folder / name / "model_final.pth", weights_only=True)["model"]
        for name in ("other", "fine")
    )
    changed = {
        name.split(".")[1]
        for name, value in after.items()
        if name.startswith("backbone.") and not torch.equal(value, before[name])
    }
    assert changed == {"stage3", "stage4"}


def test_the_pictures_are_there(commands):
    folder, printed = commands
    assert (folder / "camvid_dfnet_v1" / "curves.png").is_file()
    assert sorted(p.name for p in folder.parent.iterdir()) == ["fine.csv", "fine.pdf", "output"]
    drawn = {p.name for p in (folder / "scored" / "inference").glob("*.png")}
    assert drawn == {"camvid_sem_seg_val_confusion.png", "camvid_sem_seg_val_sem_seg_IoU.png"}
    assert "most confused" in printed["eval"][0]
