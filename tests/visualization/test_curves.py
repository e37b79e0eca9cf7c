"""`srnet plot`: the curves of trainings, from files that are whole, torn or still written."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from srnet.visualization.curves import draw_curves, name_runs, plot_runs, read_run, smooth


@pytest.fixture
def runs(tmp_path):
    """Two trainings; the second was killed while it wrote a line."""
    folders = []
    for name, scale in (("first", 1.0), ("second", 2.0)):
        folder = tmp_path / name
        folder.mkdir()
        lines = []
        for i in range(19, 200, 20):
            line = {"iteration": i, "total_loss": scale * 100 / (i + 1), "lr": 0.1}
            if i % 100 == 99:
                line |= {"sem_seg/mIoU": scale * i / 10, "validation/total_loss": scale}
            lines.append(json.dumps(line))
        if name == "second":
            lines += [lines[-1], '{"iteration": 219, "total_lo']
        (folder / "metrics.json").write_text("\n".join(lines))
        folders.append(folder)
    return folders


def values_in(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_the_usual_metrics_of_both_are_drawn(srnet, runs, tmp_path):
    files = [tmp_path / f"out.{kind}" for kind in ("png", "pdf", "svg", "csv")]
    result = srnet("plot", *runs, "--output", *files)
    assert result.status == 0, result.err
    assert result.out.startswith("total_loss, sem_seg/mIoU in ")
    heads = [path.read_bytes()[:5] for path in files]
    assert heads[0][1:4] == b"PNG" and heads[1] == b"%PDF-" and heads[2] == b"<?xml"
    rows = values_in(files[3])
    loss = [r for r in rows if (r["run"], r["metric"]) == ("second", "total_loss")]
    assert [int(r["iteration"]) for r in loss] == list(range(19, 200, 20))
    assert float(loss[0]["value"]) == 10.0
    assert {r["metric"] for r in rows} == {"total_loss", "validation/total_loss", "sem_seg/mIoU"}


def test_the_default_is_a_picture_in_the_first_run(srnet, runs):
    assert srnet("plot", *runs, "--smooth", 0.5, "--log").status == 0
    with Image.open(runs[0] / "curves.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert not (runs[1] / "curves.png").exists()


def test_a_panel_has_a_curve_for_each_run_and_its_validation(runs):
    found = {path.name: read_run(path) for path in runs}
    figure = draw_curves(found, ["total_loss", "sem_seg/mIoU", "lr"], log=True)
    loss, iou, rate, empty = figure.axes
    labels = [line.get_label() for line in loss.get_lines()]
    assert labels == ["first", "first, validation", "second", "second, validation"]
    x, y = loss.get_lines()[2].get_data()
    assert list(x) == list(range(19, 200, 20)) and y[0] == 10.0
    assert [axes.get_yscale() for axes in (loss, iou, rate)] == ["log", "linear", "log"]
    assert not empty.axison
    colors = [line.get_color() for line in loss.get_lines()]
    assert colors[0] == colors[1] != colors[2]


def test_smoothing_is_tensorboards(runs):
    values = np.array([1.0, 2.0, 4.0])
    # The weights of the values seen so far, divided by their sum.
    expected = [1.0, (0.5 * 1 + 2) / 1.5, (0.25 * 1 + 0.5 * 2 + 4) / 1.75]
    np.testing.assert_allclose(smooth(values, 0.5), expected)
    np.testing.assert_array_equal(smooth(values, 0), values)
    figure = draw_curves({"a": read_run(runs[0])}, ["total_loss"], weight=0.5)
    raw, smoothed, validation = figure.axes[0].get_lines()
    np.testing.assert_allclose(smoothed.get_ydata(), smooth(raw.get_ydata(), 0.5))
    np.testing.assert_array_equal(validation.get_ydata(), [1.0, 1.0])  # evaluations are as they are


def test_no_logarithm_of_zero(runs):
    found = {"a": {"total_loss": (np.arange(3), np.array([1.0, 0.0, 2.0]))}}
    assert draw_curves(found, ["total_loss"], log=True).axes[0].get_yscale() == "linear"


def test_of_several_lines_of_an_iteration_the_last_counts(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1, "a": 1}\n[]\n{"iteration": 1, "a": 2, "b": NaN}\n')
    run = read_run(path)
    assert list(run) == ["a"] and run["a"][1].tolist() == [2.0]


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [tmp_path / a / "run" for a in ("x", "y")]
    assert name_runs(paths) == ["x/run", "y/run"]
    assert name_runs([paths[0], tmp_path / "other"]) == ["run", "other"]
    same = name_runs([paths[0], paths[0]])
    assert len(set(same)) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metric", "sem_seg/miou"], "did you mean sem_seg/mIoU?"),
        (["--metric", "q"], "one of total_loss, lr"),
        (["--smooth", "1"], "--smooth 1 must be 0 or more and below 1"),
        (["--output", "a.gif"], "a.gif: the suffix must be one of .png"),
        (["--output", "missing/a.png"], "there is no folder missing"),
    ],
)
def test_what_cannot_be_drawn(srnet, runs, words, message):
    result = srnet("plot", runs[0], *words)
    assert result.status == 1 and message in result.err and result.err.count("\n") == 1
    assert list(runs[0].iterdir()) == [runs[0] / "metrics.json"]


def test_what_is_no_training(srnet, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.json").write_text("")
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path / "empty.json"):
        result = srnet("plot", path)
        assert result.status == 1 and path.name in result.err and result.err.count("\n") == 1


def test_a_torn_line_does_not_hide_the_last_evaluation(srnet, runs):
    result = srnet("metrics", runs[1])
    assert result.status == 0 and "39.8" in result.out
    assert "validation" not in result.out


def test_many_runs(runs, tmp_path):
    assert plot_runs([runs[0]] * 12, [tmp_path / "a.png"]) == ["total_loss", "sem_seg/mIoU"]
