"""The table of runs whose metrics.json is made by hand, against sums done here."""

import csv
import json

import numpy as np
import pytest
import yaml
from srnet.evaluation.results import Confusion, write_confusion
from srnet.sweep import read_sweep
from srnet.sweep.definition import Row
from srnet.sweep.launch import run_all
from srnet.sweep.runs import Run, all_runs, final_metrics, shard

VAL, TEST = "camvid_sem_seg_val", "camvid_sem_seg_test"
# mIoU on the validation images by row and seed, and the IoU of two classes.
MIOU = {"sr": {1: 42.0, 2: 44.5, 3: 43.0}, "psp": {1: 41.0, 2: 42.5, 3: 42.5}}
CAR = {"sr": {1: 60.0, 2: 61.0, 3: 65.0}, "psp": {1: 50.0, 2: 52.0, 3: 54.0}}


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "mine.yaml"
    content = {
        "base": "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml",
        "common": {"SOLVER.MAX_ITER": 10},
        "rows": [
            {"name": "sr", "paper": 79.9},
            {"name": "psp", "paper": 77.2, "overrides": {"MODEL.CONTEXT.NAME": "psp"}},
        ],
        "seeds": [1, 2, 3],
        "metrics": ["sem_seg/mIoU"],
        "reference": "psp",
    }
    path.write_text(yaml.safe_dump(content))
    return read_sweep(path)


def evaluation(row, seed, iteration=10):
    values = {"mIoU": MIOU[row][seed], "IoU-Car": CAR[row][seed], "IoU-Sky": 90.0}
    record = {f"{VAL}/sem_seg/{name}": value for name, value in values.items()}
    record |= {f"{TEST}/sem_seg/{name}": value / 2 for name, value in values.items()}
    return record | {"iteration": iteration}


def write_run(run, *records, **changes):
    """What a training leaves, made by hand."""
    run.folder.mkdir(parents=True)
    cfg = run.config([word for item in changes.items() for word in item])
    (run.folder / "config.yaml").write_text(cfg.dump())
    (run.folder / "metrics.json").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.fixture
def finished(sweep, tmp_path):
    for run in all_runs(sweep, tmp_path / "out"):
        loss = {"iteration": 9, "total_loss": 1.0}
        write_run(run, loss, evaluation(run.row.name, run.seed))
    return tmp_path / "out"


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_numbers_are_those_of_numpy(srnet, sweep, finished, cells_of):
    result = srnet("sweep", sweep.path, "--output", finished, "--table")
    assert result.status == 0, result.err
    lines = read_csv(finished / "table.csv")
    assert [(line["row"], line["dataset"]) for line in lines] == [
        (row, dataset) for dataset in (VAL, TEST) for row in ("sr", "psp")
    ]
    values = {row: np.array(list(seeds.values())) for row, seeds in MIOU.items()}
    pairs = values["sr"] - values["psp"]
    t = pairs.mean() / (pairs.std(ddof=1) / 3**0.5)
    p = 1 - abs(t) / (t * t + 2) ** 0.5  # Student's distribution with 2 degrees of freedom
    sr, psp = lines[:2]
    expected = {"mean": values["sr"].mean(), "spread": values["sr"].std(ddof=1), "n": 3}
    expected |= {"seed1": 42.0, "seed2": 44.5, "pairs": 3, "difference": pairs.mean()}
    expected |= {"difference_spread": pairs.std(ddof=1), "t": t, "p": p}
    expected |= {"paper": 79.9, "paper_difference": 79.9 - 77.2}
    for name, value in expected.items():
        assert float(sr[name]) == pytest.approx(value, abs=1e-9), name
    assert sr["reference"] == "psp" and psp["reference"] == "" == psp["difference"]
    # The printed table has the same, with two digits.
    row = next(cells for cells in cells_of(result.out) if cells[0] == "sr")
    shown = [f"{values['sr'].mean():.2f}", f"{values['sr'].std(ddof=1):.2f}"]
    shown += [f"{pairs.mean():+.2f}", f"{pairs.std(ddof=1):.2f}", f"{p:.3f}", "3"]
    assert row == ["sr", "42.00", "44.50", "43.00", *shown, "79.90", "+2.70"]
    assert "With n = 3" in result.out and "support little" in result.out


def test_classes_are_compared_too(srnet, sweep, finished, cells_of):
    pixels = np.array([[10, 0], [0, 30]])
    folder = finished / "sr" / "seed1" / "inference"
    write_confusion(str(folder), Confusion(VAL, ["Sky", "Car"], pixels))
    result = srnet("sweep", sweep.path, "--output", finished, "--table")
    assert result.status == 0, result.err
    rows = [cells for cells in cells_of(result.out) if cells[0] in ("Car", "Sky")]
    # With the pixels of one class three times the other's, it comes first.
    assert rows[:2] == [["Car", "75.00", "52.00", "+10.00"], ["Sky", "25.00", "90.00", "+0.00"]]
    assert "sr: most Car +10.0, Sky +0.0" in result.out
    car = next(line for line in read_csv(finished / "per_class.csv") if line["class"] == "Car")
    assert float(car["difference"]) == 10 and float(car["pixels"]) == 75
    sky = next(line for line in read_csv(finished / "per_class.csv") if line["class"] == "Sky")
    assert sky["p"] == ""  # equal values have no test


def test_only_what_has_ended_with_this_config_counts(srnet, sweep, tmp_path):
    out = tmp_path / "out"
    runs = {run.name: run for run in all_runs(sweep, out)}
    write_run(runs["sr/seed1"], evaluation("sr", 1))
    # An evaluation in the middle, and one after which a kill came.
    write_run(runs["sr/seed2"], evaluation("sr", 2, 5), {"iteration": 9, "total_loss": 1.0})
    write_run(runs["sr/seed3"], evaluation("sr", 3, 5))
    write_run(runs["psp/seed1"], evaluation("psp", 1), **{"SOLVER.BASE_LR": "0.5"})
    result = srnet("sweep", sweep.path, "--output", out, "--table")
    assert result.status == 0, result.err
    assert "1 of 6 runs have ended" in result.out
    assert "psp/seed1 is left out" in result.out and "SOLVER.BASE_LR 0.5 there" in result.out
    assert [line["row"] for line in read_csv(out / "table.csv")] == ["sr", "sr"]


def test_the_machine_of_a_run_does_not_matter(sweep, tmp_path):
    run = all_runs(sweep, tmp_path / "out")[0]
    write_run(run, evaluation("sr", 1), **{"DATALOADER.NUM_WORKERS": "7"})
    assert final_metrics(run.folder, run.config())
    said = []
    assert run_all([run], {"sr": run.config()}, say=said.append) == []
    assert said == ["[1/1] sr/seed1: has ended before"]


def test_a_run_of_another_config_is_not_continued(sweep, tmp_path):
    run = all_runs(sweep, tmp_path / "out")[0]
    write_run(run, **{"SOLVER.BASE_LR": "0.5"})
    (run.folder / "model_0000004.pth").touch()
    said = []
    assert run_all([run], {"sr": run.config()}, say=said.append) == [run]
    assert "was made with another config: SOLVER.BASE_LR 0.5 there" in said[0]


def test_the_shards_are_a_partition():
    runs = [Run(Row(f"r{i}", None), seed, None) for seed in (1, 2, 3) for i in range(7)]
    for count in (1, 2, 4, 30):
        parts = [shard(runs, number, count) for number in range(1, count + 1)]
        assert sorted(run.name for part in parts for run in part) == sorted(r.name for r in runs)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
