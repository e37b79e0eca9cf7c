"""What all preparations share: the contract with the command line, and writing files."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from srnet.data.prepare import NAMES
from srnet.data.prepare.conversion import copy_image, is_current, run_script, write_label
from srnet.data.prepare.pascal_context import read_mat


@pytest.mark.parametrize("name", NAMES)
def test_every_preparation_has_a_help_and_a_script(root, name, capsys):
    module = importlib.import_module(f"srnet.data.prepare.{name}")
    with pytest.raises(SystemExit) as stop:
        run_script(module, ["--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    description, _, rest = module.__doc__.partition("\n")
    assert description in printed and rest.strip() in printed
    assert (root / "datasets" / f"prepare_{name}.py").is_file()


def test_there_is_no_other_script(root):
    scripts = {path.stem.removeprefix("prepare_") for path in (root / "datasets").glob("*.py")}
    assert scripts == set(NAMES)


def test_a_script_runs_from_anywhere(root, tmp_path):
    command = [sys.executable, str(root / "datasets" / "prepare_scenes.py"), "--size", "7"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert "prepare_scenes.py: error: argument --size: '7' is not HxW" in result.stderr


def test_without_scipy_mat_labels_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ModuleNotFoundError, match=r"a\.mat needs scipy.*pip install scipy"):
        read_mat(Path("a.mat"))


def test_copies_and_links_are_made_once_and_made_anew(tmp_path):
    image, path = tmp_path / "image.png", tmp_path / "made" / "image.png"
    Image.new("RGB", (4, 3), (1, 2, 3)).save(image)
    assert [copy_image(image, path, link) for link in (False, False, True, True)] == [1, 0, 1, 0]
    assert path.is_symlink() and path.samefile(image)
    assert copy_image(image, path, False) and not path.is_symlink()
    assert path.read_bytes() == image.read_bytes()
    os.utime(image, (0, 1_000_000_000))
    assert not is_current(path, image)
    write_label(np.full((3, 4), 7), path, image)
    assert is_current(path, image) and (np.array(Image.open(path)) == 7).all()
    assert [p.name for p in path.parent.iterdir()] == ["image.png"]
