"""Training a classifier: schedule, averages, accumulation, exact resume, the command."""

import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from classifier_runs import CONFIG, first_weight, make_sets, options, resumed_from, train

EVERYTHING = {
    "SOLVER.ACCUMULATE": 2,
    "SOLVER.EMA.ENABLED": True,
    "SOLVER.EMA.DECAY": 0.5,
    "MODEL.CLASSIFIER.LABEL_SMOOTHING": 0.1,
    "INPUT.CLASSIFICATION.AUTO_AUGMENT": "trivial",
    "INPUT.CLASSIFICATION.MIXUP": 0.2,
    "INPUT.CLASSIFICATION.CUTMIX": 1.0,
    "INPUT.CLASSIFICATION.RANDOM_ERASING": 0.5,
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("classes"))


@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_resumed_run_has_the_curve_of_an_uninterrupted_one(root, sets, tmp_path, more):
    whole, curve = train(root, sets, tmp_path / "whole", **more)
    assert list(curve.losses) == [0, 1, 2, 3]
    folder = resumed_from(tmp_path / "whole", "model_0000001.pth", tmp_path / "resumed")
    resumed, rest = train(root, sets, folder, resume=True, **more)
    assert rest.losses == {i: curve.losses[i] for i in (2, 3)}
    assert rest.rates == {i: curve.rates[i] for i in (2, 3)}
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    if more:
        for name, value in whole.average.model.state_dict().items():
            assert torch.equal(value, resumed.average.model.state_dict()[name]), name


def test_the_average_of_the_weights(root, sets, tmp_path):
    more = {"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.75}
    trainer, recorder = train(root, sets, tmp_path, **more)
    expected = recorder.weights[0]  # the first update takes the weights as they are
    for weight in recorder.weights[1:]:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(first_weight(trainer.average.model), expected)
    saved = torch.load(tmp_path / "ema" / "model_final.pth", weights_only=True)["model"]
    torch.testing.assert_close(saved["backbone.stem.conv1.weight"], expected)
    last = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert torch.equal(last["backbone.stem.conv1.weight"], recorder.weights[-1])
    # The training is that without an average.
    _, plain = train(root, sets, tmp_path / "plain")
    assert plain.losses == recorder.losses


def test_precise_statistics_of_the_averaged_weights(root, sets, tmp_path):
    """The average is what is evaluated; Detectron2 made those of the trained model precise."""
    more = {"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.5, "MODEL.RESNETS.NORM": "BN"}
    more |= {"TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 2}
    trainer, _ = train(root, sets, tmp_path, **more)
    batches = list(itertools.islice(iter(trainer.build_train_loader(trainer.cfg)), 2))
    for model in (trainer.model, trainer.average.model):
        conv, means = model.backbone.stem.conv1, []
        for batch in batches:
            images = torch.stack([sample["image"] for sample in batch])
            x = (images - model.pixel_mean) / model.pixel_std
            maps = F.conv2d(x, conv.weight.detach(), stride=2, padding=3)
            means.append(maps.mean((0, 2, 3)))
        torch.testing.assert_close(conv.norm.running_mean, (means[0] + means[1]) / 2)
    saved = torch.load(tmp_path / "ema" / "model_final.pth", weights_only=True)["model"]
    assert torch.equal(saved["backbone.stem.conv1.norm.running_mean"], conv.norm.running_mean)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_is_the_whole_batch(root, sets, tmp_path, parts):
    """Norms of fixed statistics see no batch, so nothing but the rounding differs."""
    frozen = {"MODEL.RESNETS.NORM": "FrozenBN", "SOLVER.MAX_ITER": 2, "SOLVER.BASE_LR": 0.001}
    _, whole = train(root, sets, tmp_path / "whole", **frozen)
    frozen["SOLVER.ACCUMULATE"] = parts
    _, split = train(root, sets, tmp_path / "split", **frozen)
    assert list(split.losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-4)
    moved = (whole.weights[-1] - whole.weights[0]).norm()
    assert (whole.weights[-1] - split.weights[-1]).norm() < 1e-3 * moved


@pytest.mark.parametrize("parts", [1, 2])  # without parts Detectron2's trainer asks for a GPU
def test_mixed_precision_on_a_cpu(root, sets, tmp_path, parts):
    _, full = train(root, sets, tmp_path / "full", **{"SOLVER.ACCUMULATE": parts})
    more = {"SOLVER.ACCUMULATE": parts, "SOLVER.AMP.ENABLED": True}
    _, mixed = train(root, sets, tmp_path / "mixed", **more)
    assert mixed.losses != full.losses
    assert mixed.losses[0] == pytest.approx(full.losses[0], rel=0.02)


def test_cosine_schedule_with_warm_up(root, sets, tmp_path):
    more = {"SOLVER.MAX_ITER": 5, "SOLVER.BASE_LR": 0.2, "SOLVER.BASE_LR_BATCH": 8}
    _, recorder = train(root, sets, tmp_path, **more)

    def cosine(i):
        return 0.1 * 0.5 * (1 + math.cos(math.pi * i / 5))  # 0.2 for 8 images, and there are 4

    expected = [cosine(i) for i in range(5)]
    expected[0] = 0.001 * 0.1
    expected[1] = (expected[0] + cosine(2)) / 2
    assert list(recorder.rates.values()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.ACCUMULATE", 3, r"SOLVER.ACCUMULATE=3 must divide the 4 images"),
        ("SOLVER.BASE_LR_BATCH", -1, r"SOLVER.BASE_LR_BATCH=-1"),
        ("SOLVER.EMA.DECAY", 1.0, r"SOLVER.EMA.DECAY=1.0"),
        ("SOLVER.EMA.PERIOD", 0, r"SOLVER.EMA.PERIOD=0"),
    ],
)
def test_bad_options(root, sets, tmp_path, key, value, message):
    with pytest.raises(ValueError, match=message):
        train(root, sets, tmp_path, **{"SOLVER.EMA.ENABLED": True, key: value})


def test_an_unreadable_image_stops_the_run_or_is_counted(root, sets, tmp_path, caplog):
    with pytest.raises(ValueError, match=r"b/1\.jpg"):
        train(root, sets, tmp_path, evaluate=True)
    trainer, _ = train(root, sets, tmp_path, evaluate=True, **{"DATALOADER.SKIP_BAD_IMAGES": True})
    assert trainer._last_eval_results["classification"]["images"] == 7
    assert "1 of the 8 images" in caplog.text and "b/1.jpg" in caplog.text


def accuracy(output):
    """The last line of numbers that Detectron2 prints for copying."""
    lines = [line.split("copypaste: ")[1] for line in output.splitlines() if "copypaste: " in line]
    return lines[-1]


def test_the_command_trains_and_evaluates_on_one_and_two_processes(train_net, sets, tmp_path):
    more = {"DATALOADER.SKIP_BAD_IMAGES": True, "SOLVER.MAX_ITER": 2}
    first = train_net(sets, CONFIG, "--num-gpus=2", *options(sets, tmp_path, **more))
    assert "top1,top5,images" in first.stdout
    weights = ("MODEL.WEIGHTS", tmp_path / "model_final.pth")
    second = train_net(sets, CONFIG, "--eval-only", *options(sets, tmp_path, **more), *weights)
    assert accuracy(second.stdout) == accuracy(first.stdout) != ""
    metrics = [json.loads(x) for x in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any("classification/top1" in x for x in metrics)
