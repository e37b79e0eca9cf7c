"""What a newcomer meets first: the installer's messages, the package, the documents."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from importlib import util
from pathlib import Path

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


@pytest.mark.parametrize(
    ("tests", "status", "listed"), [("true", 0, ""), ("touch left.txt", 1, "?? left.txt")]
)
def test_ci_fails_where_tests_leave_files(root, tmp_path, tests, status, listed):
    (tmp_path / ".ci").mkdir()
    shutil.copy(root / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text(f"lint:\n\t@true\ntest:\n\t@{tests}\n")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, "commit", "-qm", "Start"], cwd=tmp_path, check=True)
    result = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True)
    assert result.returncode == status
    assert listed in result.stderr


@pytest.fixture
def lint_imports(root, tmp_path):
    """Runs import-linter with the contracts of pyproject.toml on a copy of the package."""
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copytree(
        root / "projects" / "SRNet" / "srnet",
        tmp_path / "srnet",
        ignore=shutil.ignore_patterns("__pycache__", "configs"),
    )

    def run():
        command = Path(sysconfig.get_path("scripts")) / "lint-imports"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [str(command), "--no-cache"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


def test_imports_point_downwards(lint_imports):
    result = lint_imports()
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line", "reported"),
    [
        ("engine/trainer.py", "import srnet.model_zoo", "srnet.engine.trainer -> srnet.model_zoo"),
        ("layers/losses.py", "from srnet import engine", "srnet.layers.losses -> srnet.engine"),
        ("layers/losses.py", "from srnet import build_model", "srnet -> srnet.modeling"),
        (
            "modeling/build.py",
            "from ..data import build_mapper",
            "srnet.modeling.build -> srnet.data",
        ),
        (
            "evaluation/build.py",
            "def late():\n    from srnet.engine import Trainer",
            "srnet.evaluation.build -> srnet.engine",
        ),
        (
            "data/loader.py",
            "from srnet.modeling import build_model",
            "srnet.data.loader -> srnet.modeling",
        ),
        (
            "data/loader.py",
            "import srnet.checkpoint.convert",
            "srnet.data.loader -> srnet.checkpoint",
        ),
        ("layers/losses.py", "from srnet import config", "srnet.layers.losses -> srnet.config"),
        ("layers/losses.py", "import detectron2.config", "srnet.layers.losses -> detectron2"),
        ("layers/context/cbam.py", "from torchvision import ops", "cbam -> torchvision"),
        (
            "analysis/costs.py",
            "from srnet.visualization import visualize",
            "srnet.analysis.costs -> srnet.visualization",
        ),
    ],
)
def test_a_planted_import_is_found(lint_imports, tmp_path, file, line, reported):
    with (tmp_path / "srnet" / file).open("a") as module:
        module.write(f"\n\n{line}\n")
    result = lint_imports()
    assert result.returncode == 1
    assert reported in " ".join(result.stdout.split())


def test_a_package_without_a_place_is_found(lint_imports, tmp_path):
    (tmp_path / "srnet" / "helpers.py").write_text("")
    result = lint_imports()
    assert result.returncode == 1
    assert "helpers" in result.stdout


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "INSTALL.md",
        "GETTING_STARTED.md",
        "MODEL_ZOO.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/CONFIG.md",
        "docs/SECURITY.md",
        "datasets/README.md",
        "projects/SRNet/README.md",
    ],
)
def test_documents_name_what_exists(root, name):
    text = (root / name).read_text()
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert ((root / name).parent / link).exists(), link
    for path in re.findall(r"(?<![\w/.])((?:configs|tools|projects|datasets)/[\w./-]+\.\w+)", text):
        # NAME stands for any.
        assert "NAME" in path or (root / path).exists(), path
