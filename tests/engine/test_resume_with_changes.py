"""--resume with another config: the config wins, the position stays, and the log says so."""

import json

import pytest
import torch
from classifier_runs import build, make_sets, resumed_from, train
from srnet.engine.metrics import drop_lines_from

NEXT = "model_0000001.pth"
POLY = {"SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR", "SOLVER.WARMUP_ITERS": 0}
NO_WARMUP = {"SOLVER.WARMUP_ITERS": 0}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def poly(root, sets, tmp_path_factory):
    """The folder and the curve of a finished run with DeepLab's schedule."""
    folder = tmp_path_factory.mktemp("poly")
    return folder, train(root, sets, folder, **POLY)[1]


def poly_rate(base, iteration, length):
    return base * (1 - iteration / length) ** 0.9


@pytest.mark.parametrize("length", [3, 8])
def test_another_length(root, sets, poly, tmp_path, caplog, length):
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    _, curve = train(root, sets, folder, resume=True, **POLY, **{"SOLVER.MAX_ITER": length})
    expected = {i: poly_rate(0.02, i, length) for i in range(2, length)}
    assert curve.rates == pytest.approx(expected)
    assert f"SOLVER.MAX_ITER: 4 -> {length}" in caplog.text


def test_a_finished_run_goes_on(root, sets, poly, tmp_path):
    folder = resumed_from(poly[0], "model_final.pth", tmp_path / "out")
    _, curve = train(root, sets, folder, resume=True, **POLY, **{"SOLVER.MAX_ITER": 6})
    assert curve.rates == pytest.approx({i: poly_rate(0.02, i, 6) for i in (4, 5)})


def test_another_optimizer(root, sets, poly, tmp_path, caplog):
    more = {"SOLVER.BASE_LR": 0.001, "SOLVER.MOMENTUM": 0.5, "SOLVER.WEIGHT_DECAY": 0.25}
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    trainer, _ = build(root, sets, folder, resume=True, **POLY, **more)
    saved = torch.load(folder / NEXT, weights_only=True)["trainer"]["_trainer"]["optimizer"]
    for group in trainer.optimizer.param_groups:
        assert group["lr"] == pytest.approx(poly_rate(0.001, 2, 4))
        assert group["momentum"] == 0.5
    assert 0.25 in {group["weight_decay"] for group in trainer.optimizer.param_groups}
    state = trainer.optimizer.state_dict()["state"]
    for index, value in saved["state"].items():
        assert torch.equal(state[index]["momentum_buffer"], value["momentum_buffer"])
    for line in ("BASE_LR: 0.02 -> 0.001", "MOMENTUM: 0.9 -> 0.5", "WEIGHT_DECAY: 0.0001 -> 0.25"):
        assert f"SOLVER.{line}" in caplog.text
    assert "SOLVER.GAMMA" not in caplog.text


def test_groups_that_are_formed_otherwise_keep_their_moments(root, sets, poly, tmp_path):
    """Biases with a rate of their own are groups of their own: the order differs."""
    trainer, _ = build(root, sets, tmp_path / "biases", **POLY, **{"SOLVER.BIAS_LR_FACTOR": 2.0})
    trainer.train()
    folder = resumed_from(tmp_path / "biases", NEXT, tmp_path / "out")
    resumed, _ = build(root, sets, folder, resume=True, **POLY)
    assert len(resumed.optimizer.param_groups) < len(trainer.optimizer.param_groups)
    state = torch.load(folder / NEXT, weights_only=True)["trainer"]
    saved = dict(
        zip(state["parameters"], state["_trainer"]["optimizer"]["state"].values(), strict=True)
    )
    for name, parameter in resumed.model.named_parameters():
        moment = resumed.optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(moment, saved[name]["momentum_buffer"]), name


def test_another_schedule(root, sets, poly, tmp_path):
    more = {**NO_WARMUP, "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR", "SOLVER.STEPS": "(3,)"}
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    _, curve = train(root, sets, folder, resume=True, **more)
    assert curve.rates == pytest.approx({2: 0.02, 3: 0.002})


def test_a_checkpoint_of_detectron2s_trainer(root, sets, poly, tmp_path):
    """It has neither the names of the parameters nor the keys of SOLVER."""
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    checkpoint = torch.load(folder / NEXT, weights_only=True)
    for key in ("seed", "solver", "parameters", "history"):
        del checkpoint["trainer"][key]
    torch.save(checkpoint, folder / NEXT)
    _, curve = train(root, sets, folder, resume=True, **POLY)
    assert curve.losses == {i: poly[1].losses[i] for i in (2, 3)}


def test_mixed_precision_from_a_run_without(root, sets, poly, tmp_path):
    more = {"SOLVER.AMP.ENABLED": True, "SOLVER.ACCUMULATE": 2}
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    _, curve = train(root, sets, folder, resume=True, **POLY, **more)
    assert list(curve.losses) == [2, 3]


def test_an_average_that_begins_late(root, sets, poly, tmp_path):
    more = {"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.0}
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    trainer, _ = train(root, sets, folder, resume=True, **POLY, **more)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, trainer.average.model.state_dict()[name])


@pytest.mark.parametrize("length", [3, 4])
def test_nothing_left_to_train(root, sets, poly, tmp_path, caplog, length):
    """The end is said, and evaluated; the weights stay."""
    folder = resumed_from(poly[0], "model_final.pth", tmp_path / "out")
    before = (folder / "model_final.pth").read_bytes()
    more = {"SOLVER.MAX_ITER": length, "DATALOADER.SKIP_BAD_IMAGES": True}
    trainer, curve = train(root, sets, folder, resume=True, evaluate=True, **POLY, **more)
    assert curve.losses == {}
    assert f"of iteration 3, and SOLVER.MAX_ITER is {length}" in caplog.text
    assert trainer._last_eval_results["classification"]["images"] == 7
    assert (folder / "model_final.pth").read_bytes() == before
    records = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [r["iteration"] for r in records] == [4] and "classification/top1" in records[0]


def test_killed_between_the_last_two_checkpoints(root, sets, poly, tmp_path):
    folder = resumed_from(poly[0], "model_0000003.pth", tmp_path / "out")
    train(root, sets, folder, resume=True, **POLY)
    states = [torch.load(f / "model_final.pth", weights_only=True) for f in (folder, poly[0])]
    assert states[0]["iteration"] == states[1]["iteration"] == 3
    for name, value in states[1]["model"].items():
        assert torch.equal(states[0]["model"][name], value)


def test_weights_that_hold_an_iteration_are_no_resume(root, sets, poly, tmp_path):
    """`--resume` in an empty folder begins with MODEL.WEIGHTS at iteration 0."""
    more = {"MODEL.WEIGHTS": poly[0] / NEXT}
    trainer, _ = build(root, sets, tmp_path / "out", resume=True, **POLY, **more)
    assert trainer.start_iter == 0
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.02)


def losses(folder):
    lines = (folder / "metrics.json").read_text().splitlines()
    times = ("time", "data_time", "rank_data_time", "eta_seconds")
    return [{k: v for k, v in json.loads(x).items() if k not in times} for x in lines]


def test_metrics_are_those_of_the_uninterrupted_run(root, sets, poly, tmp_path):
    """Smoothed over the whole run; what was written after the checkpoint is dropped."""
    folder = resumed_from(poly[0], NEXT, tmp_path / "out")
    lost = [json.dumps({"iteration": i, "total_loss": 99.0}) for i in (2, 3)]
    (folder / "metrics.json").write_text("\n".join([*lost, '{"iteration": 4, "tot']))
    train(root, sets, folder, resume=True, **POLY)
    assert losses(folder) == losses(poly[0])
    assert [record["iteration"] for record in losses(folder)] == [3]


def test_lines_that_a_resumed_run_writes_again(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(
        '{"iteration": 19, "a": 1}\n{"iteration": 39, "a": 2}\n{"iteration": 19, "a": 3}\n'
        '{"iteration": 29, "a": 4}\nnoise\n{"iteration": 30, "a": 5}\n{"iteration": 2'
    )
    drop_lines_from(str(path), 30)
    assert path.read_text() == '{"iteration": 19, "a": 3}\n{"iteration": 29, "a": 4}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
