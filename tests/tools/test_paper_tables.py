"""tools/paper_tables.py: each row of the paper builds and costs what is printed, or says why."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from srnet.analysis.costs import analyze, load_config
from srnet.analysis.meta_counting import build_on_meta, count_multiply_adds, count_parameters
from srnet.model_zoo.names import config_names

PAPER = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "tools" / "paper_rows.yaml").read_text()
)
OF_ROWS = [(name, row) for name, table in PAPER.items() for row in table["rows"]]
# Rows of each table, the heading left out: counted in the paper.
NUMBERS = {"1": 2, "3": 8, "4": 14, "5": 13, "6": 14, "7a": 15, "7b": 10, "8a": 15, "8b": 13}
NUMBERS |= {"9a": 10, "9b": 6, "10": 7}


@pytest.fixture(scope="module")
def tables(root):
    sys.path.insert(0, str(root / "tools"))
    yield importlib.import_module("paper_tables")
    sys.path.remove(str(root / "tools"))


@pytest.mark.parametrize("name", PAPER)
def test_every_row_of_a_table_is_there(name):
    """With a config, or cited from another paper; ours of R-101 and X-101 have a second form."""
    rows = [row for row in PAPER[name]["rows"] if "after res5 alone" not in row["name"]]
    assert len(rows) == NUMBERS[name]
    for row in rows:
        assert len(row.get("results", [])) in (len(PAPER[name]["results"]), 0)
        assert "config" in row or not {"params", "flops", "memory"} & set(row)
        assert "config" in row or "SR" not in row["name"]


@pytest.mark.parametrize(
    ("name", "row"),
    [pair for pair in OF_ROWS if "config" in pair[1]],
    ids=[f"{name}: {row['name']}" for name, row in OF_ROWS if "config" in row],
)
def test_a_row_builds_and_costs_what_the_paper_prints(tables, name, row):
    assert f"{row['config']}.yaml" in config_names()
    model = tables.build_row(row)
    costs = tables.costs_of(PAPER[name], row, model)
    assert set(costs) == {"params", "flops"} & set(row)
    for kind, cost in costs.items():
        assert cost.ours > 0
        assert abs(cost.difference) <= cost.tolerance, (kind, cost)
        # A reason stands where it is needed, and nowhere else.
        far = abs(cost.difference) > tables.CLOSE
        assert far == bool(cost.reason) == (cost.tolerance > tables.CLOSE), (kind, cost)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", (64, 96)),
        ("quick_schedules/mask_rcnn_R_18_FPN_SR.yaml", (256, 384)),
    ],
)
def test_counts_on_meta_are_those_of_fvcore(config, size):
    """Detectors draw their masks, too: fvcore counts a few operations more."""
    parameters, giga, _ = analyze(load_config(config), size)["model"]
    model = build_on_meta(config)
    assert count_parameters(model) == parameters * 1e6
    assert count_multiply_adds(model, size) / 1e9 == pytest.approx(giga, rel=2e-3)


def test_a_table_of_rows(tables):
    header, rows = tables.table_of_rows("10")
    assert header[1:4] == ["paper, top-1", "config", "params (M)"] and len(rows) == 7
    assert rows[3][:3] == ["SRNet-r50", "78.1", "ImageNet-Classification/resnet_50_SR"]
    assert rows[3][3:6] == pytest.approx([25.64, 25.64, 0], abs=2e-3)
    _, cited = tables.table_of_rows("7b")
    assert cited[0] == ["SegNet [70], VGG-16", "60.1", "cited"]


def test_the_memory_of_table_iv(tables):
    """SE keeps its input's copy: a map of 512 x 96 x 96 in fp32, as the paper says."""
    row = next(row for row in PAPER["4"]["rows"] if row["name"] == "+ SE")
    assert tables.memory_of(tables.build_row(row), "context") == pytest.approx(18.88, rel=1e-2)
    assert tables.memory_of(tables.build_row(row), "conv") == pytest.approx(75.5, rel=1e-2)


def test_complexity_of_table_ii(tables):
    _, rows = tables.table_2()
    assert [row[0] for row in rows] == list(tables.TABLE_II)
    for _, _, positions, expected, channels, expected_channels in rows:
        assert positions == pytest.approx(expected, abs=0.08)
        assert channels == pytest.approx(expected_channels, abs=0.05)


def test_slope_finds_an_exponent(tables):
    assert tables.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


HEADER, ROWS = (
    ["model", "GFLOPs", "paper", "diff %"],
    [["a, b", 241.23, 0.0095, 0.05], ["c", 0, 1, -3]],
)


def test_formats(tables):
    text = tables.to_text(HEADER, ROWS, "text").splitlines()
    assert text[2].split() == ["a,", "b", "241.2", "0.00950", "+0.1"]
    assert len({len(line) for line in text}) == 1
    markdown = tables.to_text(HEADER, ROWS, "markdown").splitlines()
    assert set(markdown[1]) <= set("|-: ") and len({line.count("|") for line in markdown}) == 1
    read = list(csv.reader(tables.to_text(HEADER, ROWS, "csv").splitlines()))
    assert read[0] == HEADER and read[1][0] == "a, b" and len(read) == 3


def test_an_unknown_table_is_refused(root):
    command = [sys.executable, root / "tools" / "paper_tables.py", "--table", "11"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: '11'" in done.stderr
