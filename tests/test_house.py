"""What a newcomer meets first: the installer's messages, the package, the documents."""

import re
import subprocess
import sys
from collections import namedtuple
from importlib import util

import pytest


@pytest.fixture
def installer(root):
    spec = util.spec_from_file_location("installer", root / "requirements" / "install.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_unsupported_python_is_refused(installer, monkeypatch):
    monkeypatch.setattr(installer.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3.9 is not supported: SRNet needs 3.10, 3.11 or"):
        installer.main()


def test_a_full_disk_is_said_before_anything_is_fetched(installer, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")(0, 0, 2e9)
    monkeypatch.setattr(installer.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(installer.sys, "argv", ["install.py", str(tmp_path / "venv")])
    with pytest.raises(SystemExit, match=r"2.0 GB are free .*9 GB are needed"):
        installer.main()
    assert not (tmp_path / "venv").exists()


def test_a_second_run_does_nothing(installer, monkeypatch, tmp_path):
    (tmp_path / "srnet-installed").write_text(installer.fingerprint())
    monkeypatch.setattr(installer.sys, "argv", ["install.py", str(tmp_path)])
    monkeypatch.setattr(installer.subprocess, "call", lambda *a: pytest.fail("it ran a command"))
    installer.main()


def test_detectron2s_scripts_leave_the_import_path(installer, tmp_path):
    site, kept = tmp_path / "lib" / "site-packages", tmp_path / "share" / "detectron2" / "tools"
    for name in ("old.py", "train_net.py"):  # of an installation and of its update
        (site / "tools").mkdir(parents=True)
        (site / "tools" / name).touch()
        installer.move_tools(str(site), str(tmp_path))
        assert not (site / "tools").exists() and [p.name for p in kept.iterdir()] == [name]
    installer.move_tools(str(site), str(tmp_path))  # Detectron2's official package has none
    assert (kept / "train_net.py").exists()


def test_every_requirement_is_pinned_with_hashes(root):
    for name in ("lock.txt", "build.txt", "detectron2.txt"):
        text = (root / "requirements" / name).read_text().replace("\\\n", " ")
        lines = [line for line in text.splitlines() if re.match(r"[A-Za-z]", line)]
        assert lines
        assert all("==" in line and "--hash=sha256:" in line for line in lines)


def test_the_package_works_from_anywhere(tmp_path):
    code = "import srnet.layers, srnet.modeling, srnet.data, srnet.engine, srnet.evaluation"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_files_import_only_from_the_layers_under_them(root):
    """DESIGN's order; config may be read by all that know Detectron2."""
    package = root / "projects" / "SRNet" / "srnet"
    under = {
        "layers": set(),
        "modeling": {"layers"},
        "data": {"layers", "modeling"},
        "evaluation": {"layers", "modeling", "data"},
        "engine": {"layers", "modeling", "data", "evaluation"},
        "model_zoo": {"layers", "modeling", "data", "evaluation", "engine"},
    }
    for name, allowed in under.items():
        allowed = allowed | {name} | ({"config"} if name != "layers" else set())
        for path in (package / name).rglob("*.py"):
            imported = set(re.findall(r"^\s*(?:from|import) srnet\.(\w+)", path.read_text(), re.M))
            assert imported <= allowed, path


@pytest.mark.parametrize(
    "name",
    ["README.md", "INSTALL.md", "GETTING_STARTED.md", "MODEL_ZOO.md", "datasets/README.md"],
)
def test_documents_name_what_exists(root, name):
    text = (root / name).read_text()
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((root / name).parent / link).exists(), link
    for path in re.findall(r"(?<![\w/.])((?:configs|tools|projects|datasets)/[\w./-]+\.\w+)", text):
        assert (root / path).exists(), path
