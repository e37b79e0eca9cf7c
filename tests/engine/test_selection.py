"""The best checkpoint and early stopping, as a user and a resumed run meet them."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from srnet import build_model, get_cfg
from srnet.checkpoint import load_for_evaluation
from srnet.data import register_all_camvid
from srnet.engine import Trainer, close_process_groups
from srnet.engine.best import MetricRecord
from srnet.engine.signals import EvaluationInterrupted
from srnet.evaluation.metric_names import metric_names

CONFIG = "CamVid-SemanticSegmentation/lite0.yaml"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
    "INPUT.CROP.SIZE": "[64,64]",
    "INPUT.MIN_SIZE_TRAIN": "(48,96)",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 6,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.TEST": "('camvid_sem_seg_val',)",
    "TEST.EVAL_PERIOD": 1,
    "TEST.BEST_CHECKPOINT.METRIC": "sem_seg/mIoU",
    "SEED": 1,
}


@pytest.fixture(scope="module", autouse=True)
def camvid(small_camvid, datasets_forgotten):
    with datasets_forgotten("camvid"):
        register_all_camvid(str(small_camvid))
        yield


def config(folder, **more):
    chosen = {**SMALL, "OUTPUT_DIR": folder, **more}
    return get_cfg(CONFIG, [str(x) for item in chosen.items() for x in item])


class Scripted(Trainer):
    """Evaluations return chosen values."""

    values: dict = {}

    def evaluate(self):
        if not comm.is_main_process():
            return {}  # as evaluators do
        return {"sem_seg": {"mIoU": self.values[min(self.iter, max(self.values))]}}


def run(folder, values, resume=False, **more):
    class Run(Scripted):
        pass

    Run.values = dict(enumerate(values))
    trainer = Run(config(folder, **more))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def record_of(folder):
    return json.loads((folder / "model_best.json").read_text())


def best_in(folder):
    return torch.load(folder / "model_best.pth", weights_only=True)


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [("max", [1, 3, 2, 3, 5, 4], 4), ("min", [4, 3, float("nan"), 2, 5, 2], 3)],
)
def test_the_best_weights_are_kept(tmp_path, mode, values, best):
    run(tmp_path, values, **{"TEST.BEST_CHECKPOINT.MODE": mode})
    record = record_of(tmp_path)
    assert (record["best_iteration"], record["best"]) == (best, values[best])
    assert [i for i, _ in record["evaluations"]] == list(range(6))
    kept, then = (
        torch.load(tmp_path / name, weights_only=True)["model"]
        for name in ("model_best.pth", f"model_{best:07d}.pth")
    )
    assert all(torch.equal(kept[name], value) for name, value in then.items())
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize(("stop", "with_file"), [(0, True), (1, True), (1, False), (3, False)])
def test_a_resumed_run_keeps_the_best_so_far(tmp_path, stop, with_file):
    """A checkpoint is older than the evaluation of its iteration; the file has that one, too."""
    values = [1, 5, 2, 3, 4, 2]
    run(tmp_path / "whole", values)
    folder = tmp_path / "resumed"
    folder.mkdir()
    name = f"model_{stop:07d}.pth"
    shutil.copy(tmp_path / "whole" / name, folder)
    (folder / "last_checkpoint").write_text(name)
    if with_file:
        for file in ("model_best.json", "model_best.pth"):
            shutil.copy(tmp_path / "whole" / file, folder)
    run(folder, values, resume=True)
    if with_file:
        assert record_of(folder) == record_of(tmp_path / "whole")
    if with_file or stop != 1:
        assert record_of(folder)["best"] == 5
    else:  # the best was evaluated after the checkpoint, and nothing tells of it
        assert record_of(folder)["best"] == 4


def test_a_new_run_does_not_go_on_from_an_old_best(tmp_path):
    run(tmp_path, [9] * 6, **{"SOLVER.MAX_ITER": 1})
    run(tmp_path, [1, 2, 1, 1, 1, 1])
    assert record_of(tmp_path)["best"] == 2 and record_of(tmp_path)["best_iteration"] == 1


def test_the_best_of_an_average_is_the_average_that_was_evaluated(tmp_path):
    more = {"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.5, "SOLVER.MAX_ITER": 3}
    trainer = Trainer(config(tmp_path, **more))
    trainer.train()
    best = record_of(tmp_path)
    cfg = config(tmp_path, **{"MODEL.WEIGHTS": tmp_path / "model_best.pth"})
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    assert Trainer.test(cfg, model)["sem_seg"]["mIoU"] == pytest.approx(best["best"])
    saved = torch.load(tmp_path / f"model_{best['best_iteration']:07d}.pth", weights_only=True)
    average = saved["trainer"]["hooks"]["WeightAverage"]
    kept = best_in(tmp_path)["model"]
    assert all(torch.equal(value, average[f"module.{name}"]) for name, value in kept.items())


def test_nothing_is_resumed_from_the_best_weights(tmp_path):
    trainer = run(tmp_path, [3, 1, 1, 1, 1, 1])
    assert not [p for p in trainer.checkpointer.newest_first() if "best" in p]


def test_early_stopping_ends_as_a_finished_training_does(tmp_path, caplog):
    more = {"TEST.EARLY_STOPPING.PATIENCE": 2, "SOLVER.EMA.ENABLED": True}
    with caplog.at_level(logging.INFO):
        trainer = run(tmp_path, [1, 4, 3, 4, 9, 9], **more)
    assert trainer.iter == 3
    (line,) = [r.getMessage() for r in caplog.records if "Early stopping" in r.getMessage()]
    assert "after iteration 3" in line and "sem_seg/mIoU has not become better in 2" in line
    assert "the best is 4 at iteration 1" in line
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 3
    assert (tmp_path / "ema" / "model_final.pth").is_file()
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["sem_seg/mIoU"] == 4  # the writers are closed with it


def test_a_resume_does_not_go_on_after_early_stopping(tmp_path, caplog):
    values = [1, 4, 3, 4, 2, 1]
    run(tmp_path, values, **{"TEST.EARLY_STOPPING.PATIENCE": 2})
    caplog.clear()
    trainer = run(tmp_path, values, resume=True, **{"TEST.EARLY_STOPPING.PATIENCE": 2})
    assert trainer.start_iter == 4 and "Nothing left to train" in caplog.text
    assert not (tmp_path / "model_0000004.pth").exists()
    # More patience goes on.
    trainer = run(tmp_path, values, resume=True, **{"TEST.EARLY_STOPPING.PATIENCE": 3})
    assert (tmp_path / "model_0000004.pth").exists() and trainer.iter == 4


def test_a_resumed_run_stops_where_the_whole_one_did(tmp_path):
    values = [4, 3, 3, 3, 3, 3]
    run(tmp_path, values, **{"TEST.EARLY_STOPPING.PATIENCE": 3})
    assert not (tmp_path / "model_0000004.pth").exists()
    (tmp_path / "model_final.pth").unlink()
    (tmp_path / "model_0000003.pth").unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    run(tmp_path, values, resume=True, **{"TEST.EARLY_STOPPING.PATIENCE": 3})
    assert (tmp_path / "model_0000003.pth").exists()
    assert not (tmp_path / "model_0000004.pth").exists()


def test_small_gains_do_not_count(tmp_path):
    more = {"TEST.EARLY_STOPPING.PATIENCE": 2, "TEST.EARLY_STOPPING.MIN_DELTA": 1.0}
    trainer = run(tmp_path, [1, 1.5, 2.0, 9, 9, 9], **more)
    assert trainer.iter == 2
    assert record_of(tmp_path)["best"] == 2.0  # which is the best all the same


def test_a_signal_in_an_evaluation_is_no_missing_metric(tmp_path):
    class Interrupted(Scripted):
        def evaluate(self):
            raise EvaluationInterrupted

    trainer = Interrupted(config(tmp_path))
    trainer._signals.received = 15
    with pytest.raises(SystemExit):
        trainer.train()
    assert not (tmp_path / "model_best.json").exists()


def test_values_of_another_metric_are_left_alone(tmp_path):
    path = str(tmp_path / "model_best.json")
    MetricRecord(path, "sem_seg/pACC", "max").add(1, 5.0)
    record = MetricRecord(path, "sem_seg/mIoU", "max")
    record.restore(10)
    assert record.summary() == (None, 0)


def test_a_damaged_record_is_no_record(tmp_path):
    path = tmp_path / "model_best.json"
    path.write_text('{"metric": "x", "evalu')
    record = MetricRecord(str(path), "x", "max")
    record.restore(10)
    assert record.summary() == (None, 0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"TEST.BEST_CHECKPOINT.METRIC": "sem_seg/miou"}, r"did you mean sem_seg/mIoU"),
        ({"TEST.BEST_CHECKPOINT.METRIC": "x"}, r"one of sem_seg/mIoU, sem_seg/fwIoU"),
        ({"TEST.BEST_CHECKPOINT.METRIC": "camvid_sem_seg_val/sem_seg/mIoU"}, "did you mean"),
        ({"DATASETS.TEST": "()"}, r"needs a dataset in DATASETS\.TEST"),
        ({"TEST.EVAL_PERIOD": 0}, r"needs TEST\.EVAL_PERIOD, which is 0"),
        (
            {"DATASETS.TEST": "('camvid_sem_seg_val','camvid_sem_seg_test')"},
            r"did you mean .*camvid_sem_seg_\w+/sem_seg/mIoU",
        ),
        (
            {"TEST.BEST_CHECKPOINT.METRIC": "validation/total_loss"},
            r"needs TEST\.VALIDATION_LOSS\.PERIOD, which is 0",
        ),
        (
            {
                "TEST.BEST_CHECKPOINT.METRIC": "validation/total_loss",
                "TEST.VALIDATION_LOSS.PERIOD": 2,
            },
            r"TEST\.BEST_CHECKPOINT\.MODE min",
        ),
        (
            {"TEST.BEST_CHECKPOINT.METRIC": "", "TEST.EARLY_STOPPING.PATIENCE": 2},
            r"PATIENCE=2 needs a metric",
        ),
        (
            {
                "TEST.BEST_CHECKPOINT.METRIC": "",
                "TEST.VALIDATION_LOSS.PERIOD": 2,
                "DATASETS.TEST": "()",
            },
            r"TEST\.VALIDATION_LOSS\.DATASET",
        ),
    ],
)
def test_what_cannot_be_is_said_before_the_training(tmp_path, more, message):
    with pytest.raises(ValueError, match=message) as error:
        Trainer(config(tmp_path, **more))
    assert "\n" not in str(error.value)


def test_several_datasets_have_their_names_before_the_metric(tmp_path):
    sets = "('camvid_sem_seg_val','camvid_sem_seg_test')"
    more = {"DATASETS.TEST": sets, "SOLVER.MAX_ITER": 2}
    more["TEST.BEST_CHECKPOINT.METRIC"] = "camvid_sem_seg_test/sem_seg/mIoU"
    Trainer(config(tmp_path, **more)).train()
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    values = dict(record_of(tmp_path)["evaluations"])
    assert values[max(values)] == last["camvid_sem_seg_test/sem_seg/mIoU"]


def test_the_names_are_those_of_the_evaluation(tmp_path):
    cfg = config(tmp_path)
    results = Trainer.test(cfg, build_model(cfg))
    names = [f"{task}/{metric}" for task, found in results.items() for metric in found]
    assert sorted(metric_names(cfg, "camvid_sem_seg_val")) == sorted(names)


@close_process_groups
def stop_and_resume(folder):
    torch.set_num_threads(1)
    more = {"TEST.EARLY_STOPPING.PATIENCE": 2, "TEST.VALIDATION_LOSS.PERIOD": 2}
    for name, resume in (("first", False), ("second", True)):
        trainer = run(Path(folder), [1, 4, 3, 4, 9, 9], resume=resume, **more)
        ended = trainer.iter, trainer._early_stopping.reason
        (Path(folder) / f"{name}_{comm.get_rank()}").write_text(str(ended))
        comm.synchronize()  # the main process has given up the folder


def test_all_processes_stop_together(small_camvid, tmp_path):
    result = subprocess.run(
        [sys.executable, __file__, tmp_path],
        env={**os.environ, "DETECTRON2_DATASETS": str(small_camvid), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ("first", "second"):
        both = [(tmp_path / f"{name}_{rank}").read_text() for rank in (0, 1)]
        assert both[0] == both[1] and both[0].startswith("(3, 'sem_seg/mIoU has not become better")
    assert not (tmp_path / "model_0000004.pth").exists()


if __name__ == "__main__":
    from detectron2.engine import launch

    launch(stop_and_resume, 2, dist_url="auto", args=(sys.argv[1],))
