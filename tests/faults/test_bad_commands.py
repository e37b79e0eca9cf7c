"""Bad inputs on the command line: exit status 1, one line with the file, and nothing written."""

import os
import subprocess
import sys

import pytest
import torch
from bad_inputs import tree_of

pytestmark = pytest.mark.fault("strangers: commands")
CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
SMALL = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
SMALL += ["INPUT.CROP.SIZE", "[64,64]", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]


@pytest.fixture
def folder(tmp_path, small_camvid):
    """A CamVid tree whose files may be changed."""
    for path in sorted((small_camvid / "camvid").rglob("*.png")):
        place = tmp_path / "data" / path.relative_to(small_camvid)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def text(path):
    path.write_text("see the other folder")


def foreign(path):
    torch.save({"encoder.weight": torch.ones(3)}, path)


CASES = {
    "train, a label is cut off": ("train", "data/camvid/trainannot/0000.png", cut, []),
    "train, weights that are a text": ("train", "w.pth", text, ["MODEL.WEIGHTS", "w.pth"]),
    "eval, foreign weights": ("eval", "w.pth", foreign, ["MODEL.WEIGHTS", "w.pth"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_command_ends_with_one_line(folder, tried, name):
    tried(f"command: {name}")
    command, path, change, options = CASES[name]
    change(folder / path)
    # So that every image is read in the one iteration.
    for other in (folder / "data/camvid/train").glob("*.png") if "label" in name else ():
        if other.name > "0001.png":
            other.unlink()
    before = tree_of(folder)
    words = [sys.executable, "-m", "srnet", command, "--config-file", CONFIG]
    result = subprocess.run(
        [*words, *SMALL, *options, "OUTPUT_DIR", str(folder / "output")],
        env={**os.environ, "DETECTRON2_DATASETS": str(folder / "data"), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("srnet: error: ") and os.path.basename(path) in last
    # Detectron2's traceback of what ends a training in its loop is in log.txt alone.
    assert "Traceback" not in result.stderr + result.stdout
    after = {p: h for p, h in tree_of(folder).items() if not p.startswith("output")}
    assert after == before
