"""The file of a sweep: what is shipped can be read, and what is wrong is named."""

import pytest
import yaml
from srnet.sweep import find_sweep, read_sweep, sweep_names
from srnet.sweep.check import check_metrics, row_config
from srnet.sweep.runs import all_runs

BASE = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
GOOD = {
    "base": BASE,
    "rows": [{"name": "sr"}, {"name": "psp", "overrides": {"MODEL.CONTEXT.NAME": "psp"}}],
    "seeds": [1, 2],
    "metrics": ["sem_seg/mIoU"],
    "reference": "psp",
}


def write(folder, **changes):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": []}, "the sweep has no key row; did you mean rows"),
        ({"rows": []}, "rows must be a list of rows, and is"),
        ({"rows": ["sr"]}, "row 1 must be keys and values, and is 'sr'"),
        ({"rows": [{"overrides": {}}]}, "row 1 needs the key name"),
        ({"rows": [{"name": "../sr"}]}, "the name '../sr' must begin with a small letter"),
        ({"rows": [{"name": "psp"}, {"name": "psp"}]}, "two rows have the name psp"),
        ({"rows": [{"name": "sr"}]}, "the reference 'psp' is no row; the rows are sr"),
        (
            {"rows": [{"name": "psp", "paper": "79"}]},
            "row psp: paper must be a number, and is '79'",
        ),
        (
            {"rows": [{"name": "psp", "paper": {"bbox/AP": 1}}]},
            "paper names 'bbox/AP', and metrics",
        ),
        ({"rows": [{"name": "psp", "base": "none.yaml"}]}, "row psp: there is no config file none"),
        ({"base": ""}, "row sr needs a base"),
        ({"common": {"SEED": 3}}, "common: SEED follows from the sweep's seeds"),
        ({"common": {"SOLVER": {"BASE_LR": 1}}}, "common: SOLVER has keys, and keys are written"),
        ({"common": [1]}, r"common must be config keys and values, and is \[1\]"),
        ({"seeds": [1, 1]}, "seeds has one twice"),
        ({"seeds": [-1]}, "seeds must be a list of whole numbers from 0 on"),
        ({"metrics": ["mIoU"]}, "metrics has 'mIoU', and a metric is TASK/METRIC"),
        ({"title": 3}, "title must be text, and is 3"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        read_sweep(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_tag_runs_no_code(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("rows: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match=r"the tag .* is not allowed"):
        read_sweep(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.CONTEXT.NAM": "sr"}, "row psp: .*there is no key MODEL.CONTEXT.NAM"),
        ({"MODEL.CONTEXT.SQUEEZE": "max"}, "row psp: .*MODEL.CONTEXT.SQUEEZE"),
    ],
)
def test_a_wrong_override_of_the_last_row_stops_the_first(srnet, tmp_path, overrides, message):
    rows = [{"name": "sr"}, {"name": "psp", "overrides": overrides}]
    path = write(tmp_path, rows=rows)
    result = srnet("sweep", path, "--output", tmp_path / "out")
    assert result.status == 1 and result.err.startswith(f"srnet: error: {path}: row psp: ")
    assert message.split(".*")[1] in result.err and not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_built_stops_it(srnet, tmp_path):
    rows = [{"name": "psp", "overrides": {"MODEL.CONTEXT.NUM_NODES": 17}}]
    path = write(tmp_path, rows=rows)
    result = srnet("sweep", path, "--output", tmp_path / "out")
    assert result.status == 1 and "row psp: num_nodes=17" in result.err
    assert not (tmp_path / "out").exists()


def test_a_metric_that_no_evaluation_has(srnet, tmp_path):
    result = srnet("sweep", write(tmp_path, metrics=["bbox/AP"]), "--table")
    assert result.status == 1 and "no row is evaluated by the metric bbox/AP" in result.err
    assert "sem_seg/mIoU" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rows", "none"], "has no row 'none'; its rows are sr, psp"),
        (["--seeds", "one"], "--seeds one: a seed is a whole number"),
        (["SEED", 1], "SEED follows from the sweep's seeds"),
        (["--shard", "3/2"], "'3/2' is not I/N with I from 1 to N"),
    ],
)
def test_wrong_command_lines(srnet, tmp_path, words, message):
    result = srnet("sweep", write(tmp_path), *words)
    assert result.status in (1, 2) and message in result.err


def test_an_unknown_sweep_suggests_the_nearest(srnet):
    result = srnet("sweep", "table_5")
    assert result.status == 1 and "the nearest names are table_" in result.err


def test_the_shipped_ones_are_listed(srnet):
    result = srnet("sweep", "--list")
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()] == sweep_names()


@pytest.mark.parametrize("name", sweep_names())
def test_the_shipped_ones_have_right_configs(name, tmp_path):
    sweep = read_sweep(find_sweep(name))
    runs = all_runs(sweep, tmp_path, seeds=[1])
    check_metrics(sweep, {run.row.name: row_config(sweep, run) for run in runs})


def test_table_3_is_the_papers(tmp_path):
    """The lines of Table III, in its order: squeeze, reasoning, mIoU."""
    lines = [("", "", 74.8), ("gap", "none", 75.3), ("ghp", "none", 76.3), ("gap", "fc", 76.6)]
    lines += [("ghp", "fc", 76.8), ("gap", "gcn", 79.1), ("ghp", "gcn", 79.9), ("ghp", "sa", 79.5)]
    for name, metric in (("table_3", "sem_seg/IoU"), ("table_3_small", "sem_seg/mIoU")):
        sweep = read_sweep(find_sweep(name))
        found, rest = [], []
        for run in all_runs(sweep, tmp_path, seeds=[1]):
            cfg = run.config()
            context = cfg.MODEL.CONTEXT
            is_sr = context.NAME == "sr"
            parts = (context.SQUEEZE, context.REASONING) if is_sr else ("", "")
            found.append((*parts, run.row.paper[metric]))
            rest.append({k: v for k, v in cfg.MODEL.items() if k != "CONTEXT"})
        assert found == lines
        assert all(other == rest[0] for other in rest)  # nothing else differs


def test_a_small_sweep_has_the_rows_of_the_large_one():
    for name in ("table_3", "table_4", "fig_4a", "fig_4b"):
        large, small = (read_sweep(find_sweep(n)) for n in (name, f"{name}_small"))
        assert [row.name for row in large.rows] == [row.name for row in small.rows]
        assert [row.reference for row in large.rows] == [row.reference for row in small.rows]
