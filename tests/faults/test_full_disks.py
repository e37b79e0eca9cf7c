"""No space left: the file is named, wherever it is written.

The limit is that of `ulimit -f`, and /dev/full where one file is written. Where mounting is
allowed, tests/checkpoint/test_files.py fills a file system.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from classifier_runs import build, make_sets
from PIL import Image
from srnet.checkpoint.files import write_file
from srnet.data.paths import written_to
from srnet.data.prepare.conversion import exchange, replacing_folder, write_label
from srnet.evaluation.cityscapes_labels import write_archive

pytestmark = pytest.mark.fault("disk full")


@contextmanager
def files_up_to(size):
    """No file grows beyond so many bytes; Python ignores the signal and gets the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("classes"))


NOISE = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)


def prepare_scenes(folder):
    with replacing_folder(folder / "scenes") as new, written_to(new / "file"):
        (new / "file").write_bytes(bytes(10_000))


def archive(folder):
    Image.fromarray(NOISE).save(folder / "prediction.png")
    with files_up_to(2000):
        write_archive([str(folder / "prediction.png")], str(folder / "archive.zip"))


WRITERS = {
    "a label": ("label.png", lambda f: write_label(NOISE, f / "label.png", f)),
    "a checkpoint": ("w.pth", lambda f: write_file({"a": bytes(10_000)}, f / "w.pth")),
    "a folder that is prepared": ("file", prepare_scenes),
    "an archive": ("archive.zip", archive),
}


@pytest.mark.parametrize("what", WRITERS)
def test_the_file_is_named_and_nothing_is_left(tmp_path, tried, what):
    tried(what)
    name, write = WRITERS[what]
    limit = 2000 if what != "an archive" else 2**20
    with files_up_to(limit), pytest.raises(OSError, match="File too large") as error:
        write(tmp_path)
    assert str(error.value.filename).endswith(name)
    assert {path.name for path in tmp_path.iterdir()} <= {"prediction.png"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ["metrics.json", "training.lock", "events.out.tfevents"])
def test_a_training_names_what_it_writes(root, sets, tmp_path, tried, name, monkeypatch):
    tried(name)
    more = {"SOLVER.CHECKPOINT_PERIOD": 1000, "SOLVER.MAX_ITER": 30}  # metrics after 20
    trainer, _ = build(root, sets, tmp_path, **more)
    if name != "training.lock":
        monkeypatch.setattr("srnet.engine.trainer.output_dir_locked", nullcontext)
    if name == "events.out.tfevents":
        monkeypatch.setattr("srnet.engine.metrics.MetricsWriter.write", lambda self: None)
    with files_up_to(20), pytest.raises((OSError, RuntimeError)) as error:
        trainer.train()
    assert f"{tmp_path}/{name}" in str(error.value)


KILLED = """
import os, signal, sys
from pathlib import Path
from srnet.data.prepare import conversion
output, moment = Path(sys.argv[1]), sys.argv[2]
def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
with conversion.replacing_folder(output) as folder:
    (folder / "file").write_text("second")
    if moment == "while it is filled":
        kill()
    if moment == "between two renames":
        conversion.exchange = lambda *args: False
        rename, Path.rename = Path.rename, lambda a, b: (rename(a, b), kill())
    if moment == "after the exchange":
        conversion.shutil.rmtree = kill
"""


@pytest.mark.fault("kills")
@pytest.mark.parametrize(
    "moment", ["while it is filled", "between two renames", "after the exchange"]
)
def test_a_killed_preparation(tmp_path, tried, moment):
    """The next one removes what it left, and there always is an output, but for the renames."""
    tried(f"a preparation is killed {moment}")
    output = tmp_path / "data"
    with replacing_folder(output) as folder:
        (folder / "file").write_text("first")
    process = subprocess.run([sys.executable, "-c", KILLED, output, moment])
    assert process.returncode == -signal.SIGKILL
    if moment != "between two renames":
        expected = "first" if moment == "while it is filled" else "second"
        assert (output / "file").read_text() == expected
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(RuntimeError), replacing_folder(output):
        assert (output / "file").exists() and len(list(tmp_path.iterdir())) == 2
        raise RuntimeError  # this run fails, too
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_runs_beside_is_left_alone(tmp_path):
    other = tmp_path / f"data.new-{socket.gethostname()}.{os.getppid()}"
    elsewhere = tmp_path / "data.new-elsewhere.1"
    for folder in (other, elsewhere):
        folder.mkdir()
    with replacing_folder(tmp_path / "data"):
        pass
    assert other.exists() and elsewhere.exists()


def test_folders_are_exchanged_in_one_step(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "a" / "file").read_text() == "b"
    assert (tmp_path / "b" / "file").read_text() == "a"
