"""tools/paper_tables.py: the well-defined rows are the paper's, and the formats hold them."""

import csv
import importlib
import subprocess
import sys

import pytest
import torch

# Rows whose equation leaves no choice, and the columns that must be the paper's.
DEFINED = {
    "SE": ("flops",),
    "NL": ("flops", "params"),
    "A2Net": ("params",),
    "CGNL": ("flops", "params"),
    "RCCA": ("flops", "params"),
    "Encoding": ("params",),
    "EMAU": ("flops",),
    "SR (GAP)": ("flops", "params"),
    "SR (GHP)": ("flops", "params"),
}


@pytest.fixture(scope="module")
def tables(root):
    sys.path.insert(0, str(root / "tools"))
    yield importlib.import_module("paper_tables")
    sys.path.remove(str(root / "tools"))


@pytest.mark.parametrize("label", DEFINED)
def test_costs_of_table_iv(tables, label):
    """Within 1 % and half a unit of the last digit that the paper prints."""
    name, giga, millions, _ = tables.TABLE_IV[label]
    module = tables.build_module(name, 512)
    if "params" in DEFINED[label]:
        assert abs(tables.count_parameters(module) - millions) <= 0.01 * millions + 0.005
    if "flops" in DEFINED[label]:
        handles = tables.SCALING if name == "se" else {}
        # Counts are proportional to the positions, but for those of NL and RCCA.
        size = 96 if name in ("nl", "rcca") else 24
        counted = tables.count(module, torch.zeros(1, 512, size, size), **handles)
        flops = sum(counted.values()) * (96 / size) ** 2 / 1e9
        # The gate of SE is computed once for the whole map.
        flops -= counted.get("linear", 0) * ((96 / size) ** 2 - 1) / 1e9
        if name == "se":
            flops -= counted["conv"] * ((96 / size) ** 2 - 1) / 1e9
        assert abs(flops - giga) <= 0.01 * giga + 0.005 * (giga > 1)


@pytest.mark.parametrize(
    ("config", "millions"), [("pspnet_R_50", 23.07), ("deeplabv3_R_50", 15.54)]
)
def test_the_heads_of_table_iv_have_its_parameters(tables, config, millions):
    assert tables.count_parameters(tables.head_context(config)) == pytest.approx(millions, abs=6e-3)


def test_a_row_holds_ours_the_papers_and_the_difference(tables):
    module, x = torch.nn.Conv2d(3, 4, 1, bias=False), torch.zeros(1, 3, 5, 5)
    row = tables.cost_row("conv", module, x, (1e-9 * 200, 1e-6 * 12, 1e-6 * 800))
    assert row[0] == "conv"
    assert row[1:] == pytest.approx([3e-7, 2e-7, 50, 1.2e-5, 1.2e-5, 0, 4e-4, 8e-4, -50])


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
    command = [sys.executable, root / "tools" / "paper_tables.py", "--table", "5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "invalid choice: '5'" in done.stderr
