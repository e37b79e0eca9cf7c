"""Fixtures shared by the tests."""

import logging
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger
from srnet.cli.main import main

# Small tensors: one thread is the fastest, and leaves the other core to another test.
torch.set_num_threads(1)
cv2.setNumThreads(1)

ROOT = Path(__file__).resolve().parents[1]

pytest_plugins = ["export_models", "fault_table", "semantic_trees"]


LOGGERS = ("srnet", "detectron2", "fvcore")


@pytest.fixture(autouse=True)
def loggers_of_one_test(monkeypatch):
    """Detectron2's setup_logger, called by a test, ends with it.

    It keeps the records from the root, where caplog is, and writes to the stdout of that test,
    which is closed in the next one; its cache would keep it from writing to the next one's.
    """
    before = {name: list(logging.getLogger(name).handlers) for name in LOGGERS}
    for name in LOGGERS:
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    yield
    for name, handlers in before.items():
        for handler in set(logging.getLogger(name).handlers) - set(handlers):
            logging.getLogger(name).removeHandler(handler)
    setup_logger.cache_clear()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real datasets; the test skips where it is missing."""
    folder = Path(os.environ.get("DETECTRON2_DATASETS", ROOT.parent / "shared" / "data"))
    if not (folder / "camvid").is_dir():
        pytest.skip(f"needs the real data (datasets/README.md): {folder}/camvid is missing")
    return folder


@pytest.fixture(scope="session")
def cells_of():
    """The cells of the rows of Markdown tables, without what aligns them."""

    def read(text):
        rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in row] for row in rows]

    return read


@pytest.fixture(scope="session")
def datasets_forgotten():
    """A context in which datasets of some prefixes are unknown, to be registered elsewhere."""

    @contextmanager
    def forget(*prefixes):
        catalogs = DatasetCatalog.data, MetadataCatalog.data
        before = [dict(catalog) for catalog in catalogs]
        for catalog in catalogs:
            for name in [n for n in catalog if n.startswith(prefixes)]:
                del catalog[name]
        try:
            yield
        finally:
            for catalog, entries in zip(catalogs, before, strict=True):
                catalog.clear()
                catalog.update(entries)

    return forget


@pytest.fixture(scope="session")
def small_camvid(tmp_path_factory) -> Path:
    """A DETECTRON2_DATASETS folder with a CamVid tree of drawn 96 x 72 images."""
    base = tmp_path_factory.mktemp("datasets")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3), ("test", 3)):
        images, labels = base / "camvid" / split, base / "camvid" / f"{split}annot"
        images.mkdir(parents=True)
        labels.mkdir()
        for i in range(count):
            label = np.full((72, 96), 3, np.uint8)
            label[: rng.integers(20, 40)] = 0
            x = int(rng.integers(10, 80))
            cv2.circle(label, (x, 50), 10, 8, -1)
            label[:2] = 11
            image = (
                label[..., None] * np.array([20, 10, 5]) + rng.integers(0, 30, (72, 96, 3))
            ) % 256
            cv2.imwrite(str(images / f"{i:04d}.png"), image.astype(np.uint8))
            cv2.imwrite(str(labels / f"{i:04d}.png"), label)
    return base


@pytest.fixture
def srnet(capsys):
    """Run the command in this process: srnet(*words) has its status, out and err."""

    def run(*words):
        try:
            status = main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return run


SMALL_CROPS = {"INPUT.CROP.SIZE": "[64,64]", "INPUT.MIN_SIZE_TRAIN": "(48,96)"}
SMALL = {
    "SOLVER.IMS_PER_BATCH": "4",
    "SOLVER.WARMUP_ITERS": "0",
    "DATALOADER.NUM_WORKERS": "0",
    "SEED": "1",
}


@pytest.fixture(scope="session")
def train_net(root):
    """Run train_net.py on small crops: train_net(datasets, config, *arguments)."""

    def run(datasets, config, *arguments, check=True, timeout=600, **popen):
        command = [sys.executable, root / "projects/SRNet/train_net.py", "--dist-url", "auto"]
        command += ["--config-file", root / "configs" / config]
        small = SMALL if "Classification" in str(config) else {**SMALL_CROPS, **SMALL}
        command += [x for item in small.items() for x in item]
        command += arguments
        environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [str(c) for c in command],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=timeout,
            **popen,
        )
        if check:
            assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        return result

    return run
