"""The benchmark of reading annotations: both loaders read the same, valid file."""

import re

from detectron2.data import DatasetCatalog
from srnet.analysis.annotations import (
    PER_IMAGE,
    ProcessCost,
    processes_to_text,
    read_times,
    to_text,
    write_annotations,
)
from srnet.data.validate import read_coco


def test_both_loaders_read_the_drawn_annotations(tmp_path):
    path = tmp_path / "instances.json"
    write_annotations(path, 40)
    content = read_coco(path, masks=True)
    assert len(content["images"]) == 40 and len(content["annotations"]) == 40 * PER_IMAGE
    times = read_times(str(path), rounds=2)
    assert [len(values) for values in times.values()] == [2, 2]
    assert "annotations_benchmark" not in DatasetCatalog


def test_the_ratio_is_that_of_the_rounds():
    text = to_text({"Detectron2": [2.0, 4.0], "this project": [3.0, 4.0]}, 10)
    assert re.search(r"this project / Detectron2: 1\.250 \(1\.000 to 1\.500\)", text)


def test_shared_memory_counts_once():
    costs = {
        "Detectron2": [ProcessCost(10.0, 2.0, 0.0)] * 2,
        "this project": [ProcessCost(12.0, 2.0, 0.5), ProcessCost(3.0, 0.75, 0.5)],
    }
    text = processes_to_text(costs)
    assert "this project, process 1 of 2: 3.00 s, peak 0.75 GB, of which 0.50 GB shared" in text
    assert "time of all, this project / Detectron2: 0.750" in text
    assert "memory of all, this project / Detectron2: 0.562" in text


def test_the_command_leaves_nothing_behind(srnet, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = srnet("benchmark", "annotations", "--images", "20", "--rounds", "1")
    assert result.status == 0 and "20 images, 140 instances" in result.out
    assert not list(tmp_path.iterdir())
