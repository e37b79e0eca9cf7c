"""The benchmark of modules: a row a module, also for one that needs more memory than there is."""

import resource

import pytest
import torch
from srnet.analysis import module_benchmark as bench
from srnet.analysis.module_tables import to_markdown
from srnet.analysis.process_memory import limited_memory, peak_memory


class Hungry(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


class Broken(torch.nn.Module):
    def forward(self, x):
        raise RuntimeError("shapes do not match")


def builder(name, channels, *, head):
    return {"hungry": Hungry, "broken": Broken}.get(name, torch.nn.Identity)()


def test_every_module_has_a_row_and_one_without_memory_says_so():
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
    table = to_markdown(rows).splitlines()
    assert len(table) == 2 + len(rows)
    assert sum("out of memory" in line for line in table) == 4
    assert len({line.count("|") for line in table}) == 1


def test_another_error_is_raised():
    with pytest.raises(RuntimeError, match="shapes"):
        bench.benchmark(["broken"], [(4, 4)], channels=8, builder=builder)


def test_ratios_are_to_sr():
    times = {"sr ghp": [0.2, 0.1, 0.3], "nl": [0.5, 0.4, 0.9]}
    found = bench.summarize(times, "nl", "sr ghp")
    # Of runs that followed each other: 2.5, 4 and 3.
    assert found["median"] == pytest.approx(500) and found["ratio"] == pytest.approx(3)
    assert bench.summarize({"nl": [1.0]}, "nl", "sr ghp")["ratio"] is None


@pytest.mark.parametrize("name", ["none", "sr ghp", "sr gap plain", "nl", "aspp"])
def test_the_head_runs_with_each(monkeypatch, name):
    monkeypatch.setattr(bench, "FEATURES", 24)
    head = bench.build(name, 32, head=True).eval()
    assert head(torch.randn(1, 24, 5, 7)).shape == (1, 32, 5, 7)
    if name.startswith("sr"):
        assert head.context_conv.fold is (False if "plain" in name else None)
        assert head.context.squeeze == name.split()[1]


@pytest.mark.parametrize("name", ["psp", "aspp"])
def test_a_training_step_of_one_image_with_pooling_to_one_position(name):
    rows = bench.benchmark([name], [(8, 8)], channels=32, repeats=1)
    assert [row["pass"] for row in rows] == ["forward", "forward + backward"]
    assert all(row["median"] > 0 for row in rows)


def test_every_name_builds():
    for name in bench.NAMES:
        if name not in bench.HEAD_ONLY:
            bench.build(name, 32)


def test_memory_is_the_peak_of_the_run():
    for _ in range(2):  # memory that is free again counts again
        assert peak_memory(lambda: torch.ones(50_000_000), "cpu") == pytest.approx(200)
    peak = peak_memory(lambda: (torch.ones(1_000_000) + 1) + 1, "cpu")
    assert peak == pytest.approx(8, abs=0.1)
    assert peak_memory(lambda: None, "cpu") == 0


def test_the_memory_limit_ends_with_its_context():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with limited_memory(0.2), pytest.raises(RuntimeError, match="memory"):
        torch.ones(250_000_000)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_what_makes_sense_in_the_head_alone():
    names, reference = bench.choose_modules(None, None, head=False)
    assert "none" not in names and reference == "sr ghp"
    names, reference = bench.choose_modules(None, None, head=True)
    assert names == list(bench.NAMES) and reference == "none"
    with pytest.raises(ValueError, match="with --head alone"):
        bench.choose_modules(["nl", "none"], None, head=False)
