"""Records are loaded by one process of a machine, and all have them; nothing is left behind."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils import comm
from srnet import get_cfg
from srnet.analysis.annotations import write_annotations
from srnet.data import build_test_loader, build_train_loader
from srnet.data.records import load_dataset
from srnet.data.shared_records import load_once
from srnet.engine import launch

NAME = "shared_test"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty again at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield
    assert not list(folder.glob("srnet*"))


def test_one_process_has_its_records_in_a_file():
    records = [{"file_name": f"{i}.png", "annotations": [{"bbox": [i, 1.5]}]} for i in range(9)]
    found, more = load_once(lambda: (list(records), "more"), [])
    assert [found[i] for i in range(len(found))] == list(found) == records and more == "more"
    found[0]["file_name"] = "changed"
    assert found[0] == records[0]  # the mapper's copy is not the dataset's
    for index in (9, -1):
        with pytest.raises(IndexError):
            found[index]


def test_an_error_is_that_of_the_loading():
    def load():
        raise ValueError("the file is wrong")

    with pytest.raises(ValueError, match="the file is wrong"):
        load_once(load, [])


def test_two_processes_read_once(tmp_path):
    """Process 1 has no function that reads; it gets the records, the metadata and the errors."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    write_annotations(good, 30)
    bad.write_text('{"images": 3}')
    subprocess.run([sys.executable, __file__, str(tmp_path)], check=True, timeout=300)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["loads"] == 3 and second["loads"] == 0
    for key in ("classes", "error", "tested"):
        assert first[key] == second[key]
    assert "images is a int, not a list" in first["error"]
    register_coco_instances(NAME, {}, str(good), str(tmp_path))
    try:
        records = load_dataset(NAME)
        assert first["classes"] == MetadataCatalog.get(NAME).thing_classes
        assert first["tested"] == [
            json.loads(json.dumps(record, default=str)) for record in records
        ]
    finally:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)
    # Each process has its half of each batch of the stream.
    assert len(first["trained"]) == len(second["trained"]) == 4
    assert not set(first["trained"]) & set(second["trained"])


def same(record):
    return record


def work(args: argparse.Namespace) -> None:
    """What each of the two processes does: training, test, and a file that is wrong."""
    from srnet.data import records

    read, loads = records.read_coco, []

    def counted(*arguments, **options):
        loads.append(arguments)
        assert comm.get_local_rank() == 0
        return read(*arguments, **options)

    records.read_coco = counted
    for name in ("good", "bad"):
        register_coco_instances(name, {}, os.path.join(args.folder, f"{name}.json"), args.folder)
    cfg = get_cfg(opts=["DATASETS.TRAIN", ("good",), "SEED", 1, "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["SOLVER.IMS_PER_BATCH", 4, "MODEL.MASK_ON", True])
    batches = iter(build_train_loader(cfg, same))
    trained = [x["image_id"] for _ in range(2) for x in next(batches)]
    loader = build_test_loader(cfg, "good", same)
    dataset = loader.data_loader.dataset
    tested = [dataset[i] for i in range(len(dataset))]
    try:
        build_test_loader(cfg, "bad", same)
    except ValueError as error:
        result = {"error": str(error), "trained": trained, "tested": tested, "loads": len(loads)}
        result["classes"] = MetadataCatalog.get("good").thing_classes
        Path(args.folder, f"{comm.get_rank()}.json").write_text(json.dumps(result, default=str))


if __name__ == "__main__":
    options = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    launch(work, argparse.Namespace(**options, folder=sys.argv[1]))
