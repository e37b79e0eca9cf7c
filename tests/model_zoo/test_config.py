"""srnet.get_cfg: from a config file, as data, to a checked config."""

import logging
import os
from pathlib import Path

import pytest
import torch
import yaml
from srnet import get_cfg, model_zoo
from srnet.model_zoo.names import config_names

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"


@pytest.fixture
def write(tmp_path):
    """Write a file of the test's folder; its path."""

    def write_file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


@pytest.mark.parametrize("name", config_names())
def test_every_config_is_valid(name):
    assert get_cfg(name).VERSION == 2


def test_a_path_and_a_name_give_the_same(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert get_cfg(root / "configs" / CONFIG) == get_cfg(CONFIG)


def test_files_override_those_they_build_on(write):
    write("one.yaml", "SEED: 1\nMODEL:\n  MASK_ON: True\n  WEIGHTS: one\nVERSION: 2\n")
    write("two.yaml", "SEED: 2\nSOLVER:\n  MAX_ITER: 7\n")
    path = write("sub/top.yaml", "_BASE_: [../one.yaml, ../two.yaml]\nMODEL:\n  WEIGHTS: top\n")
    cfg = get_cfg(path, ["SOLVER.STEPS", "(3, 5)"])
    assert (cfg.SEED, cfg.MODEL.MASK_ON, cfg.MODEL.WEIGHTS) == (2, True, "top")
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (7, (3, 5))


@pytest.mark.parametrize(
    "name",
    [
        CONFIG,
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_SR_1x.yaml",
        "ImageNet-Classification/resnet_50_SR_modern.yaml",
    ],
)
def test_the_config_that_a_training_writes_is_read_back(write, name):
    """YAML has no tuples, so those inside others come back as lists."""
    written = get_cfg(name).dump()
    read = get_cfg(write("config.yaml", written)).dump()
    assert yaml.safe_load(read) == yaml.safe_load(written)


def test_output_dir_follows_from_the_name(write):
    assert get_cfg(CONFIG).OUTPUT_DIR == "./output/camvid_dfnet_v1_SR"
    assert get_cfg(write("mine.yaml", "SEED: 1\n")).OUTPUT_DIR == "./output/mine"
    assert get_cfg(write("own.yaml", "OUTPUT_DIR: x\n")).OUTPUT_DIR == "x"
    assert get_cfg(CONFIG, ["OUTPUT_DIR", "here"]).OUTPUT_DIR == "here"


def test_output_dirs_are_all_different():
    folders = {get_cfg(name).OUTPUT_DIR for name in config_names()}
    assert len(folders) == len(config_names()) > 100


def test_environment_variables_in_paths(write, monkeypatch):
    """They made a folder of the name $RUNS."""
    monkeypatch.setenv("RUNS", "/runs")
    path = write("runs.yaml", "OUTPUT_DIR: $RUNS/a\nMODEL:\n  WEIGHTS: ${RUNS}/w.pth\n")
    cfg = get_cfg(path)
    assert (cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS) == ("/runs/a", "/runs/w.pth")
    monkeypatch.delenv("RUNS")
    with pytest.raises(ValueError, match=r"OUTPUT_DIR is '\$RUNS/a', and .*\$RUNS is not set"):
        get_cfg(path)


def test_a_tilde_is_the_home_folder(write):
    path = write("home.yaml", "OUTPUT_DIR: ~/runs\nMODEL:\n  WEIGHTS: ~/w.pth\n")
    home = os.path.expanduser("~")
    assert f"{home}/runs" == get_cfg(path).OUTPUT_DIR
    assert f"{home}/w.pth" == get_cfg(path).MODEL.WEIGHTS


# --- files that are no configs


def message(error, path, *opts):
    with pytest.raises(error) as raised:
        get_cfg(path, opts)
    text = str(raised.value.args[0])
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "bad.yaml is empty"),
        ("# nothing\n", "bad.yaml is empty"),
        ("- a\n- b\n", "bad.yaml holds a single list"),
        ("word", "bad.yaml holds a single str"),
        (b"\x80\x04\x95\xff\x00PK", "bad.yaml is not a YAML file"),
        ("SEED: 1\x00\n", "bad.yaml is not a YAML file"),
        ("SEED: 1\nMODEL: [1,\n", "bad.yaml, line 3"),
        ("SEED: 1\nSEED: 2\n", "bad.yaml, line 2: the key SEED is given twice"),
        ("MODEL:\n  MASK_ON: True\n  MASK_ON: True\n", "line 3: the key MASK_ON is given twice"),
        ("[" * 5000, "bad.yaml cannot be read"),
        ("SEED: 2000-99-99\n", "bad.yaml cannot be read"),
        ("_BASE_: bad.yaml\n", "bad.yaml: _BASE_ leads back to the same file"),
        ("_BASE_: [../x/bad.yaml]\n", "bad.yaml: _BASE_ leads back to the same file"),
        ("_BASE_: {a: 1}\n", "bad.yaml: _BASE_ must be a path or a list of paths, not {'a': 1}"),
        ("_BASE_: [1]\n", "bad.yaml: _BASE_ must be a path or a list of paths, not 1"),
        ("VERSION: 1\n", "VERSION is 1, and only configs of 2 are read"),
    ],
)
def test_files_that_are_no_configs(write, content, expected):
    assert expected in message(ValueError, write("x/bad.yaml", content))


def test_circles_and_missing_bases(write, tmp_path):
    write("a.yaml", "_BASE_: b.yaml\n")
    path = write("b.yaml", "_BASE_: a.yaml\n")
    assert f"{path} -> {tmp_path}/a.yaml -> {path}" in message(ValueError, path)
    path = write("c.yaml", "_BASE_: nothing.yaml\n")
    assert f"{path}: _BASE_ names nothing.yaml" in message(FileNotFoundError, path)
    path = write("d.yaml", "_BASE_: .\n")
    assert f"{tmp_path} is a folder" in message(IsADirectoryError, path)


def test_the_broken_file_is_named_where_another_builds_on_it(write):
    base = write("base.yaml", "MODEL: {NOTHING: 1}\n")
    assert message(KeyError, write("top.yaml", "_BASE_: base.yaml\n")).startswith(base)


@pytest.mark.parametrize("name", ["CamVid-SemanticSegmentation/dfnet_v1_SP.yaml", "../a/b.yaml"])
def test_a_missing_file_lists_the_nearest_names(name):
    text = message(FileNotFoundError, name)
    assert name in text and ("../" in name or "dfnet_v1_SR.yaml" in text)


def test_a_name_like_no_other_lists_the_folders():
    text = message(FileNotFoundError, "?")
    assert "CamVid-SemanticSegmentation/..., " in text and ".yaml" not in text


def test_folders(tmp_path):
    assert f"{tmp_path} is a folder" in message(IsADirectoryError, tmp_path)
    text = message(IsADirectoryError, "CamVid-SemanticSegmentation")
    assert "CamVid-SemanticSegmentation is a folder" in text


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "no config file" in message(FileNotFoundError, tmp_path / "pipe.yaml")


# --- strangers' files


TAGS = [
    "OUTPUT_DIR: !!python/object/apply:os.system ['touch MARKER']\n",
    "OUTPUT_DIR: !!python/object/new:os.system ['touch MARKER']\n",
    "OUTPUT_DIR: !!python/name:os.system\n",
    "MODEL: !!python/object/apply:subprocess.check_output [[touch, MARKER]]\n",
    "? !!python/object/apply:os.system ['touch MARKER']\n: 1\n",
]


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("content", TAGS)
def test_a_file_runs_nothing(write, tmp_path, content, depth):
    marker = tmp_path / "marker"
    path = write("0.yaml", content.replace("MARKER", str(marker)))
    for i in range(depth):
        path = write(f"{i + 1}.yaml", f"_BASE_: {i}.yaml\nSEED: 1\n")
    text = message(ValueError, path)
    assert "0.yaml, line 1: the tag " in text and "is not allowed" in text
    assert not marker.exists()


@pytest.mark.parametrize(
    "base",
    ["http://localhost/a.yaml", "https://a/b.yaml", "s3://a/b", "detectron2://a", "file:///a"],
)
def test_only_local_files_are_built_on(write, base):
    for value in (base, f"[{base}]"):
        text = message(ValueError, write("remote.yaml", f"_BASE_: {value}\n"))
        assert f"remote.yaml: _BASE_ is {base}, but only local files are read" in text


@pytest.mark.parametrize("leave", ["../config.py", "../../config.py", "CamVid-{0}/../../config.py"])
def test_names_stay_in_the_zoo(leave):
    name = leave.format("SemanticSegmentation")
    assert (Path(model_zoo.names.CONFIGS) / name).exists()
    message(FileNotFoundError, name)
    with pytest.raises(RuntimeError, match="not a config"):
        model_zoo.get_config_file(name)


def test_the_zoo_takes_names_alone(write, root):
    for path in (write("mine.yaml", "SEED: 1\n"), str((root / "configs" / CONFIG).resolve())):
        with pytest.raises(RuntimeError, match="not a config"):
            model_zoo.get_config(path)


# --- keys and values


@pytest.mark.parametrize(
    "content, key, nearest",
    [
        ("MODEL:\n  CONTEXT:\n    NAM: sr\n", "MODEL.CONTEXT.NAM", "MODEL.CONTEXT.NAME"),
        ("MODLE:\n  WEIGHTS: a\n", "MODLE", "MODEL"),
        ("OUTPUTDIR: a\n", "OUTPUTDIR", "OUTPUT_DIR"),
        ("1: a\n", "1", "MODEL"),
        ("MODEL:\n  _BASE_: a.yaml\n", "MODEL._BASE_", "MODEL."),
    ],
)
def test_unknown_keys(write, content, key, nearest):
    text = message(KeyError, write("unknown.yaml", content))
    assert f"unknown.yaml: there is no key {key}; the nearest are" in text
    assert nearest in text.split("nearest are")[1]


@pytest.mark.parametrize(
    "opts, error, expected",
    [
        (["MODEL.CONTEXT.NAM", "sr"], KeyError, "no key MODEL.CONTEXT.NAM; .*MODEL.CONTEXT.NAME"),
        (["MODEL.CONTEXT.NAME.X", "sr"], KeyError, "no key MODEL.CONTEXT.NAME.X"),
        (["SOLVER.MAX_ITERS", "1"], KeyError, "no key SOLVER.MAX_ITERS; .*SOLVER.MAX_ITER"),
        (["_BASE_", "a.yaml"], KeyError, "no key _BASE_"),
        (["MODEL", "x"], ValueError, "MODEL is a group of keys"),
        (["SEED"], ValueError, "1 words: 'SEED' has no value"),
        (["SEED", "1", "OUTPUT_DIR"], ValueError, "3 words: 'OUTPUT_DIR' has no value"),
        (["SEED", "one"], ValueError, r"options: SEED is 'one' \(str\).* type int, as -1 is"),
        (["SOLVER.BASE_LR", "1"], ValueError, r"SOLVER.BASE_LR is '1' \(str\).* type float"),
        (["SEED", "(" * 300 + "1" + ")" * 300], ValueError, "SEED is '"),
    ],
)
def test_options(opts, error, expected):
    with pytest.raises(error, match=expected):
        get_cfg(CONFIG, opts)


@pytest.mark.parametrize(
    "content, expected",
    [
        ("SEED: one\n", "SEED is 'one' (str), and it must be of the type int, as -1 is"),
        (
            "SOLVER:\n  BASE_LR: fast\n",
            "SOLVER.BASE_LR is 'fast' (str), and it must be of the type",
        ),
        ("SEED: {a: 1}\n", "SEED is {'a': 1} (dict)"),
        ("SEED:\n", "SEED is None (NoneType)"),
        ("MODEL:\n", "MODEL is a group of keys, and here it is None"),
        ("MODEL: [1]\n", "MODEL is a group of keys, and here it is [1]"),
        ("OUTPUT_DIR: 2020-01-01\n", "(date)"),
        ("MODEL:\n  MASK_ON: 1\n", "MODEL.MASK_ON is 1 (int), and it must be of the type bool"),
    ],
)
def test_values_of_another_type(write, content, expected):
    text = message(ValueError, write("typed.yaml", content))
    assert "typed.yaml: " in text and expected in text


@pytest.mark.parametrize("device", ["gpu", "mps", "CPU", "cuda:", "cuda:x", "cuda:-1", "", "cpu:0"])
def test_unknown_devices(device):
    with pytest.raises(ValueError, match=r"MODEL\.DEVICE=.* must be cpu, cuda or cuda:N"):
        get_cfg(CONFIG, ["MODEL.DEVICE", device])
    with pytest.raises(ValueError, match=r"MODEL\.DEVICE=.* must be cpu, cuda or cuda:N"):
        model_zoo.get(CONFIG, device=device)


@pytest.mark.parametrize(("key", "value"), [("NUM_CLASSES", 19), ("IGNORE_VALUE", 255)])
def test_classes_that_contradict_the_dataset(key, value):
    with pytest.raises(ValueError) as error:
        get_cfg(CONFIG, [f"MODEL.SEM_SEG_HEAD.{key}", value])
    assert f"MODEL.SEM_SEG_HEAD.{key} is {value}" in str(error.value)
    assert "camvid_sem_seg_train needs 11" in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_without_a_gpu_the_device_becomes_the_cpu(device, monkeypatch):
    said = []  # not by caplog: what earlier tests set up of the loggers would matter
    monkeypatch.setattr(logging.getLogger("srnet.model_zoo.config"), "warning", said.append)
    assert get_cfg(CONFIG, ["MODEL.DEVICE", device]).MODEL.DEVICE == "cpu"
    assert "no GPU is available" in said[0]
