"""Published weights: the table, the files that the package has, and how they are written."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from srnet import get_cfg, model_zoo
from srnet.cli.main import main
from srnet.model_zoo import published
from srnet.model_zoo.publish import halved
from srnet.model_zoo.published import read_table

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
SHIPPED = read_table()
LARGEST = 12e6  # bytes of a file that the repository and the wheel take


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def model():
    model = model_zoo.get(CAMVID, device="cpu")
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


@pytest.fixture
def file(tmp_path, model, capsys):
    """Weights that `srnet export --format safetensors` wrote, in a table with its line."""
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    path = tmp_path / "published.safetensors"
    command = ["export", "--format", "safetensors", "--config-file", CAMVID, "--output", str(path)]
    assert main([*command, "MODEL.WEIGHTS", str(tmp_path / "model.pth")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "table.yaml").write_text(f"{line}\n")
    return path


@pytest.fixture
def table(file, monkeypatch):
    monkeypatch.setattr(published, "TABLE", file.parent / "table.yaml")
    return file.parent / "table.yaml"


@pytest.mark.parametrize("weights", ["get", "srnet://"])
def test_what_is_published_is_what_is_loaded(table, file, model, weights):
    if weights == "get":
        assert f"{file}#sha256={sha256(file)}" == model_zoo.get_checkpoint_url(CAMVID)
        assert model_zoo.get_config(CAMVID, trained=True).MODEL.WEIGHTS.startswith(str(file))
        loaded = model_zoo.get(CAMVID, trained=True, device="cpu")
        assert loaded.training
    else:
        url = f"srnet://{CAMVID.removesuffix('.yaml')}"
        cfg = get_cfg(CAMVID, ["MODEL.WEIGHTS", url])
        loaded = model_zoo.model_zoo.build_model(cfg)
        model_zoo.model_zoo.Checkpointer(loaded, strict=True).load(cfg.MODEL.WEIGHTS)
    for name, value in model.named_parameters():
        expected = value.half().float() if value.dim() > 1 else value
        assert torch.equal(dict(loaded.named_parameters())[name], expected), name


def test_the_file_says_what_it_is(file):
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
        kinds = {opened.get_tensor(name).dtype for name in opened.keys()}  # noqa: SIM118
    assert metadata["config"] == CAMVID
    assert (
        json.loads(metadata["classes"])[0] == "Sky" and len(json.loads(metadata["classes"])) == 11
    )
    assert kinds == {torch.float16, torch.float32}
    assert file.stat().st_size < 0.52 * (file.parent / "model.pth").stat().st_size


def test_a_wrong_or_cut_file_is_named_with_both_hashes(table, file):
    right = sha256(file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(RuntimeError, match=rf"published\.safetensors.*{sha256(file)}.*{right}"):
        model_zoo.get(CAMVID, trained=True, device="cpu")
    file.unlink()
    with pytest.raises(RuntimeError, match=r"published\.safetensors is missing"):
        model_zoo.get(CAMVID, trained=True, device="cpu")


def test_a_line_adds_weights_of_another_place(table, file, monkeypatch):
    package = file.parent / "weights_of_another_test"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.move(file, package / "a.safetensors")
    monkeypatch.syspath_prepend(file.parent)
    place = "package://weights_of_another_test/a.safetensors"
    line = f"{{place: {place}, sha256: {sha256(package / 'a.safetensors')}}}"
    table.write_text(f"{CAMVID.removesuffix('.yaml')}: {line}\n")
    assert model_zoo.get_checkpoint_url(CAMVID).startswith(f"{place}#sha256=")
    model_zoo.get(CAMVID, trained=True, device="cpu")
    table.write_text(f"{CAMVID.removesuffix('.yaml')}: {{place: {place}}}\n")
    with pytest.raises(ValueError, match=r"dfnet_v1_SR needs a place and a sha256"):
        model_zoo.get_checkpoint_url(CAMVID)


def test_a_name_without_weights_lists_those_with(table):
    with pytest.raises(FileNotFoundError, match=r"srnet://no/such: .*dfnet_v1_SR"):
        get_cfg(CAMVID, ["MODEL.WEIGHTS", "srnet://no/such"])


def test_what_cannot_be_published(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"head\.weight has values beyond"):
        halved({"head.weight": torch.full((2, 2), 1e6)})
    assert halved({"norm.running_var": torch.full((2,), 1e6)})["norm.running_var"].max() == 1e6
    command = ["export", "--format", "safetensors", "--config-file", CAMVID, "--output"]
    assert main([*command, str(tmp_path / "a.pth"), "MODEL.WEIGHTS", "x.pth"]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "a.safetensors"), "MODEL.WEIGHTS", ""]) == 1
    assert "random weights" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "a.safetensors"), "--size", "64x64"]) == 1
    assert "--size is for a graph" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# What the package has.


def test_the_default_model_is_published_and_every_model_has_its_card():
    assert model_zoo.default_model().removesuffix(".yaml") in SHIPPED
    files = {path.name for path in published.TRAINED.iterdir()} - {"table.yaml"}
    stems = {os.path.basename(p.place).removesuffix(".safetensors") for p in SHIPPED.values()}
    assert files == {f"{stem}{end}" for stem in stems for end in (".md", ".safetensors")}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model(name):
    pytest.importorskip("timm")
    entry = SHIPPED[name]
    assert os.path.getsize(entry.place) < LARGEST
    with safe_open(entry.place, framework="pt") as opened:
        assert opened.metadata()["config"] == f"{name}.yaml"
    card = published.TRAINED / os.path.basename(entry.place).replace(".safetensors", ".md")
    text = card.read_text()
    assert entry.sha256 in text
    for result in entry.results.values():  # the card and the table say the same
        assert f"{result:.2f}" in text
    model = model_zoo.get(f"{name}.yaml", trained=True, device="cpu").eval()
    with torch.no_grad():
        (result,) = model([{"image": torch.zeros(3, 64, 96), "height": 64, "width": 96}])
    assert torch.isfinite(result["sem_seg"]).all()


@pytest.mark.data
def test_evaluation_reproduces_the_table(data_root, tmp_path):
    """The default model on the validation images, as a user evaluates it."""
    pytest.importorskip("timm")
    name, dataset = model_zoo.default_model(), "camvid_sem_seg_val"
    command = [sys.executable, "-m", "srnet", "eval", "--config-file", name, "OUTPUT_DIR", tmp_path]
    command += ["DATASETS.TEST", f"('{dataset}',)", "DATALOADER.NUM_WORKERS", "0"]
    command += ["MODEL.WEIGHTS", f"srnet://{name}"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(data_root)}
    run = subprocess.run(
        [str(c) for c in command], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr[-2000:]
    (found,) = re.findall(r"copypaste: mIoU.*\n.*copypaste: ([\d.]+),", run.stdout)
    assert round(float(found), 2) == SHIPPED[name.removesuffix(".yaml")].results[dataset]
