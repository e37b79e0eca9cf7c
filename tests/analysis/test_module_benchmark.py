"""tools/benchmark.py modules: a row a module, also for one that needs more memory than there is."""

import csv
import importlib
import subprocess
import sys

import pytest
import torch


@pytest.fixture(scope="module")
def bench(root):
    sys.path.insert(0, str(root / "tools"))
    yield importlib.import_module("module_benchmark")
    sys.path.remove(str(root / "tools"))


class Hungry(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


class Broken(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("shapes do not match")


def builder(name, channels, *, head):
    return {"hungry": Hungry, "broken": Broken}.get(name, torch.nn.Identity)()


def test_every_module_has_a_row_and_one_without_memory_says_so(bench):
    rows = bench.benchmark(["sr ghp", "hungry"], [(4, 4), (2, 3)], channels=8, builder=builder)
    assert [(row["module"], row["size"]) for row in rows] == [
        (name, size)
        for size in ("4 x 4", "2 x 3")
        for _ in range(2)
        for name in ("sr ghp", "hungry")
    ]
    assert [row["pass"] for row in rows[:4]] == ["forward"] * 2 + ["forward + backward"] * 2
    for row in rows:
        assert set(row) == set(bench.FIELDS)
        if row["module"] == "hungry":
            assert row["median"] is None and row["memory"] is None
        else:
            assert 0 < row["low"] <= row["median"] <= row["high"] and row["ratio"] == 1
    table = bench.to_markdown(rows).splitlines()
    assert len(table) == 2 + len(rows)
    assert sum("out of memory" in line for line in table) == 4
    assert len({line.count("|") for line in table}) == 1


def test_another_error_is_raised(bench):
    with pytest.raises(RuntimeError, match="shapes"):
        bench.benchmark(["broken"], [(4, 4)], channels=8, builder=builder)


def test_ratios_are_to_sr(bench):
    times = {"sr ghp": [0.2, 0.1, 0.3], "nl": [0.5, 0.4, 0.9]}
    found = bench.summarize(times, "nl", "sr ghp")
    # Of runs that followed each other: 2.5, 4 and 3.
    assert found["median"] == pytest.approx(500) and found["ratio"] == pytest.approx(3)
    assert bench.summarize({"nl": [1.0]}, "nl", "sr ghp")["ratio"] is None


@pytest.mark.parametrize("name", ["none", "sr ghp", "sr gap plain", "nl", "aspp"])
def test_the_head_runs_with_each(bench, monkeypatch, name):
    monkeypatch.setattr(bench, "FEATURES", 24)
    head = bench.build(name, 32, head=True).eval()
    assert head(torch.randn(1, 24, 5, 7)).shape == (1, 32, 5, 7)
    if name.startswith("sr"):
        assert head.context_conv.fold is (False if "plain" in name else None)
        assert head.context.squeeze == name.split()[1]


@pytest.mark.parametrize("name", ["psp", "aspp"])
def test_a_training_step_of_one_image_with_pooling_to_one_position(bench, name):
    rows = bench.benchmark([name], [(8, 8)], channels=32, repeats=1)
    assert [row["pass"] for row in rows] == ["forward", "forward + backward"]
    assert all(row["median"] > 0 for row in rows)


def test_every_name_builds(bench):
    for name in bench.NAMES:
        if name not in bench.HEAD_ONLY:
            bench.build(name, 32)


def test_memory_is_the_peak_of_the_run(bench):
    for _ in range(2):  # memory that is free again counts again
        assert bench.peak_memory(lambda: torch.ones(50_000_000), "cpu") == pytest.approx(200)
    peak = bench.peak_memory(lambda: (torch.ones(1_000_000) + 1) + 1, "cpu")
    assert peak == pytest.approx(8, abs=0.1)
    assert bench.peak_memory(lambda: None, "cpu") == 0


def test_the_command(root, cells_of, tmp_path):
    command = [sys.executable, root / "tools" / "benchmark.py", "modules", "--sizes", "8x8", "4x6"]
    command += [
        "--channels",
        "32",
        "--modules",
        "sr ghp",
        "se",
        "--repeats",
        "2",
        "--dtype",
        "bf16",
    ]
    command += ["--device", "cpu", "--csv", tmp_path / "m.csv", "--plot", tmp_path / "m.png"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    assert ["se", "8 x 8", "forward"] in [row[:3] for row in cells_of(done.stdout)]
    with open(tmp_path / "m.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and float(rows[0]["median"]) > 0
    assert (tmp_path / "m.png").stat().st_size > 5000


def test_too_little_memory_is_a_row(root, cells_of):
    command = [sys.executable, root / "tools" / "benchmark.py", "modules", "--modules", "gc", "nl"]
    command += ["--sizes", "128x128", "--channels", "16", "--forward-only", "--repeats", "1"]
    command += ["--memory", "0.3", "--device", "cpu", "--threads", "1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Non-local's 16384 x 16384 weights, if they are formed, are 1 GB.
    rows = {row[0]: row[1:4] for row in cells_of(done.stdout)}
    assert rows["gc"][:2] == ["128 x 128", "forward"] and float(rows["gc"][2]) > 0
    assert rows["nl"][2] == "out of memory" or float(rows["nl"][2]) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sizes", "8by8"], "is not HEIGHTxWIDTH"),
        (["--modules", "none"], "with --head"),
        (["--modules", "nosuch"], "invalid choice"),
        (["--repeats", "0"], "at least 1"),
    ],
)
def test_bad_arguments(root, options, words):
    command = [sys.executable, root / "tools" / "benchmark.py", "modules", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode and words in done.stderr
