"""Fig. 4 and Fig. 5(b): reading their tables, and what is drawn."""

import math
import statistics

import pytest
from srnet.visualization.speed_plot import Model, draw_speed, read_models
from srnet.visualization.sweep_plot import draw_sweep, group_points, read_sweep_table

WIDE = """row,dataset,metric,seed1,seed2,n,mean,spread,paper
none,camvid,sem_seg/pACC,80,81,2,,,
none,camvid,sem_seg/mIoU,50,51,2,,,74.8
nodes_16,camvid,sem_seg/mIoU,56,55,2,,,79.9
nodes_2,camvid,sem_seg/mIoU,54,,1,,,
reduction_8,camvid,sem_seg/mIoU,53,52,2,,,
"""
LONG = "row,seed,metric,value\nK4,1,mIoU,60\nK4,2,mIoU,62\nK32,1,mIoU,61\n"


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "table.csv").write_text(text)
        return tmp_path / "table.csv"

    return write


def test_the_table_of_a_sweep(table):
    title, points = read_sweep_table(table(WIDE).parent)
    assert title == "sem_seg/mIoU, camvid"
    assert [p.row for p in points] == ["none", "nodes_16", "nodes_2", "reduction_8"]
    assert points[1].mean == 55.5 and points[1].spread == statistics.stdev([55, 56])
    assert points[2].values == (54,) and points[2].spread == 0 and math.isnan(points[2].paper)
    groups, others = group_points(points)
    assert [value for value, _ in groups["nodes"]] == [2, 16]
    assert [p.row for p in others] == ["none"]
    nodes, reduction = draw_sweep(title, points).axes
    assert nodes.get_xlabel() == "nodes K" and reduction.get_xlabel() == "reduction"
    means = next(line for line in nodes.get_lines() if list(line.get_ydata()) == [54, 55.5])
    assert list(means.get_xdata()) == [2, 16]


def test_a_line_for_each_seed(table):
    title, points = read_sweep_table(table(LONG))
    assert title == "mIoU" and {p.row: p.values for p in points} == {"K4": (60, 62), "K32": (61,)}
    assert list(group_points(points)[0]) == ["K"]


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("a,b\n1,2\n", {}, "has the columns a, b: needed are row, metric"),
        ("", {}, "has the columns none"),
        ("row\n", {}, "holds no row: has a run of the sweep ended"),
        (WIDE, {"metric": "AP"}, "--metric AP: .* has sem_seg/pACC, sem_seg/mIoU"),
        (WIDE, {"dataset": "ade"}, "--dataset ade: .* has camvid"),
        (WIDE.replace("56", "much"), {}, "the row nodes_16 has the value 'much', not a number"),
    ],
)
def test_wrong_tables(table, text, options, message):
    with pytest.raises(ValueError, match=message):
        read_sweep_table(table(text), **options)


def test_no_row_with_a_number(table):
    _, points = read_sweep_table(table("row,seed,metric,value\nnone,1,mIoU,60\n"))
    with pytest.raises(ValueError, match=r"no row of the sweep ends in a number.*: none"):
        group_points(points)


def test_models_of_a_table(table):
    known, timed = read_models(table("name,miou,fps,config\na,70.5,12,\nb,60,,b.yaml\n"))
    assert known == Model("a", 70.5, 12.0) and timed.config == "b.yaml" and math.isnan(timed.fps)
    timed.fps = 30.0
    axes = draw_speed([known, timed], [False, True], "one thread").axes[0]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in axes.get_lines()] == [
        (12, 70.5),
        (30, 60),
    ]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,fps\na,1\n", "has the columns name, fps: needed are name, miou"),
        ("name,miou,fps\na,1,\n", "line 2: give fps, or the config to measure"),
        ("name,miou,fps\na,good,1\n", "line 2: miou 'good' and fps '1' must be numbers"),
    ],
)
def test_wrong_models(table, text, message):
    with pytest.raises(ValueError, match=message):
        read_models(table(text))
