"""The commands of the documents: all are read, and each kind is run at a tiny size."""

import json
import os
import re
import shlex
import subprocess
import sys

import documents
import numpy as np
import own_data
import pytest
import torch
from coco_trees import draw_coco
from PIL import Image
from srnet import build_model, get_cfg
from srnet.cli import main
from srnet.data.datasets.imagenet import imagenet_synsets
from torchvision.models import resnet18

SR, PLAIN = (f"CamVid-SemanticSegmentation/{name}.yaml" for name in ("dfnet_v1_SR", "dfnet_v1"))
# What stands for something of the reader's own.
FILLED = {
    "--config-file ...": f"--config-file {SR}",
    "MODEL.WEIGHTS ...": "MODEL.WEIGHTS model_final.pth",
    "--config-file A --compare B b.pth MODEL.WEIGHTS a.pth": (
        f"--config-file {SR} --compare {PLAIN} output/camvid_dfnet_v1/model_final.pth "
        "MODEL.WEIGHTS model_final.pth"
    ),
    "RUN_A RUN_B": " output/camvid_dfnet_v1 output/camvid_dfnet_v1_SR",
    "metrics OUTPUT_DIR": "metrics output/camvid_dfnet_v1_SR",
    "... TEST": f"srnet eval --config-file {SR} MODEL.WEIGHTS model_final.pth TEST",
}
# Commands that are not run here: why, or which test runs them.
ELSEWHERE = {
    r"(pip|uv|git|pre-commit) |python -m venv": "needs a network",
    r"(unzip|tar) ": "needs the official downloads",
    r"make ": "takes minutes; its target is looked for below",
    r"(sed|python output/detectron2/)": "tests/model_zoo/test_detectron2_tools.py",
    r"srnet predict": "tests/cli/test_documents.py",
    r"srnet .*--config-file street.yaml": "tests/engine/test_own_data.py",
    r"srnet prepare camvid": "tests/data/prepare/test_prepare_camvid.py",
    r"srnet prepare (cityscapes|ade20k|pascal)": "tests/data/prepare/test_prepare_semantic.py",
    r"srnet sweep \w": "tests/sweep/test_runs.py",
    r"pytest ": "tests do not run tests",
    r".*--device cuda": "needs a GPU",
    r"srnet submit": "tests/evaluation/test_cityscapes.py",
    r"srnet train .*CamVid-(Instance|Panoptic)": "tests/engine/test_own_data.py trains the family",
}
SMALL_RESNET = "MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64"
# What makes a command tiny: added to all that match.
TINY = {
    r"srnet (train|eval) |train_net": "SOLVER.MAX_ITER 1 SOLVER.STEPS () SOLVER.IMS_PER_BATCH 2 "
    "SOLVER.WARMUP_ITERS 0 DATALOADER.NUM_WORKERS 0",
    r"train.* \S*CamVid-Sem": "INPUT.CROP.SIZE [64,64] INPUT.MIN_SIZE_TRAIN (48,96)",
    r"(train|analyze).*(COCO|scenes)": f"{SMALL_RESNET} MODEL.FPN.OUT_CHANNELS 32 "
    "MODEL.CONTEXT.REDUCTION 16 MODEL.RPN.POST_NMS_TOPK_TEST 20",
    r"train.*(COCO|scenes)": "INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64",
    r"train.*COCO(?!.* MODEL.WEIGHTS)": 'MODEL.WEIGHTS ""',  # the zoo's need a network
    r"train.*COCO-Panoptic": "DATASETS.TRAIN ('scenes_panoptic_train_separated',) "
    "DATASETS.TEST ('scenes_panoptic_val_separated',) MODEL.ROI_HEADS.NUM_CLASSES 4 "
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES 6",
    r"train.*Classification": f"INPUT.CLASSIFICATION.SIZE 32 INPUT.CLASSIFICATION.SIZE_TEST 32 "
    f"SOLVER.BASE_LR 0.000001 INPUT.CLASSIFICATION.RESIZE_TEST 32 {SMALL_RESNET}",
    r"train.*PRETRAINED": "MODEL.TIMM.PRETRAINED False",  # needs a network
    r"eval.* slide ": "TEST.SEM_SEG.WINDOW [64,64] TEST.SEM_SEG.STRIDE [43,43]",
    r"analyze": "--size 64x64",
    r"benchmark annotations": "--images 10 --rounds 1",
    r"benchmark loading": "--images 2 --rounds 1 INPUT.CLASSIFICATION.SIZE 32",
    r"benchmark modules": "--size 8x8 --channels 32 --repeats 1",
    r"benchmark sliding": "--size 80x96 --window 64x64 --stride 43x43 --repeats 1",
    r"visualize": "--num 1",
    r"prepare scenes": "--train 2 --val 1 --size 64x96",
}
# What the documents take for granted, made first.
BEFORE = (
    "srnet prepare scenes",
    f"srnet train --config-file {PLAIN}",
    "srnet convert backbone classifier.pth r50_deep_stem_SR.pth",
)


def filled(command):
    """The text of a command, with something for each placeholder."""
    text = shlex.join(command.words)
    for placeholder, value in FILLED.items():
        text = text.replace(placeholder, value)
    return text


def kind(text):
    """Commands that differ in values alone are of one kind: the program, the keys, the family."""
    words = re.sub(r"(--config-file \S*?)[\w.]+\.yaml", r"\1", text).split()
    values = [i + 1 for i, w in enumerate(words[:-1]) if (w.isupper() and "." in w) or w == "SEED"]
    values += [i + 1 for i, w in enumerate(words[:-1]) if w in ("--seed", "OUTPUT_DIR")]
    return tuple(w for i, w in enumerate(words) if i not in values)


def tiny(text):
    """The words of a command that takes a second."""
    more = [words for pattern, words in TINY.items() if re.search(pattern, text)]
    return [*shlex.split(text), *("" if word == '""' else word for word in " ".join(more).split())]


@pytest.fixture(scope="module")
def commands(root, tmp_path_factory):
    """The commands of all code blocks, as text without placeholders; each once, in order."""
    found = documents.in_blocks(root, tmp_path_factory.mktemp("blocks"))
    assert len(found) > 100
    return list(dict.fromkeys(filled(command) for command in found))


def draw_datasets(base, camvid):
    """Small trees of the datasets that the commands read."""
    base.mkdir()
    (base / "camvid").symlink_to(camvid / "camvid")
    draw_coco(base)
    pixels = np.random.default_rng(0).integers(0, 255, (36, 40, 3), np.uint8)
    Image.fromarray(pixels).save(base / "one.jpg")
    for dataset, names in (("imagenet", imagenet_synsets()), ("hymenoptera", ("ants", "bees"))):
        for folder in (base / dataset / s / name for s in ("train", "val") for name in names):
            folder.mkdir(parents=True)
            (folder / "0.jpg").symlink_to(base / "one.jpg")


@pytest.fixture(scope="module")
def place(root, small_camvid, tmp_path_factory):
    """A folder with what the commands name: a checkout, data sets, pictures, checkpoints."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("configs", "docs", "projects"):
        (folder / name).symlink_to(root / name)
    draw_datasets(folder / "datasets", small_camvid)
    own_data.semantic(folder / "datasets/street", "train")
    own_data.semantic(folder / "datasets/street", "test")
    page = (root / "docs/OWN_DATA.md").read_text()
    example = re.search(r"<!-- street.yaml -->\n```yaml\n(.*?)```", page, re.DOTALL)[1]
    (folder / "street.yaml").write_text(example)
    Image.open(small_camvid / "camvid/val/0000.png").convert("RGB").save(folder / "street.jpg")
    state = {"model": build_model(get_cfg(SR)).state_dict()}
    for name in ("model_final", "output/other/model_final", "output/mine/model_0004999"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / f"{name}.pth")
    classifier = build_model(get_cfg("ImageNet-Classification/resnet_50_deep_stem_SR.yaml"))
    torch.save({"model": classifier.state_dict()}, folder / "classifier.pth")
    torch.save(resnet18(weights=None).state_dict(), folder / "PUBLISHED.pth")
    return folder


@pytest.fixture(scope="module")
def results(root, commands, place):
    """What came of each command: (how it was called, status, output)."""
    jobs, kinds = [["srnet", tiny(text)[1:], True] for text in BEFORE], set()
    for text in commands:
        program, *words = tiny(text)
        elsewhere = any(re.match(pattern, text) for pattern in ELSEWHERE)
        runs = kind(text) not in kinds and not elsewhere
        kinds.add(kind(text))
        if program == "srnet" or runs:
            jobs.append([program, words, runs])
    (place / "jobs.json").write_text(json.dumps(jobs))
    environment = {**os.environ, "DETECTRON2_DATASETS": "datasets", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, root / "tests/run_commands.py", "jobs.json", "results.json"],
        cwd=place,
        env={**environment, "FVCORE_CACHE": str(place / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((place / "results.json").read_text())
    return [(shlex.join([p, *w]), runs, *r) for (p, w, runs), r in zip(jobs, found, strict=True)]


def test_every_command_of_the_documents_works(results):
    """Those of ELSEWHERE, and more of one kind, are read with their config; the others run."""
    assert sum(runs for _, runs, *_ in results) >= 30
    failed = [f"{text}\n{said[-600:]}" for text, _, status, said in results if status != 0]
    assert not failed, "\n\n".join(failed)


def test_the_exceptions_are_needed_and_point_somewhere(commands, root):
    for pattern, reason in ELSEWHERE.items():
        assert any(re.match(pattern, text) for text in commands), pattern
        if reason.startswith("tests/"):
            assert (root / reason.split()[0]).is_file(), reason


def test_the_targets_of_make_exist(commands, root):
    targets = {text.split()[1] for text in commands if text.startswith("make ")}
    assert {"demo", "test", "install"} <= targets
    assert targets <= set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))


def test_commands_in_the_text_exist(root, srnet):
    """Their subcommand and their options; the text may show no more than their beginning."""
    for command in documents.in_the_text(root):
        words = [word for word in command.words[1:] if word not in ("...", "--traceback")]
        if not words or words[0] in ("SUBCOMMAND", "--help"):
            continue
        name = words[: 2 if words[0] in main.GROUPS else 1]
        said = srnet(*[word for word in name if word != "NAME"], "--help")
        assert said.status == 0, str(command)
        for option in (word for word in words if word.startswith("--") and word != "--help"):
            assert f"{option} " in said.out, str(command)
