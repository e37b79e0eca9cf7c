"""From Detectron2's metrics.json to Markdown."""

import json

import pytest


@pytest.fixture
def run(srnet, tmp_path):
    def run(*lines):
        if lines:
            text = "\n".join(map(json.dumps, lines))
            (tmp_path / "metrics.json").write_text(text + "\n")
        return srnet("metrics", tmp_path, "--output", tmp_path / "metrics.md")

    return run


def test_the_last_evaluation_is_formatted(run, cells_of, tmp_path):
    result = run(
        {"iteration": 9, "total_loss": 3.0, "sem_seg/mIoU": 1.0},
        {
            "iteration": 19,
            "sem_seg/mIoU": 50.04,
            "sem_seg/IoU-road": 75.0,
            "sem_seg/ACC-road": 80.0,
            "sem_seg/IoU-t-junction": 25.0,
            "sem_seg/BoundaryIoU-road": 3.0,
            "sem_seg/min(IoU, B-Iou)-road": 3.0,
        },
        {"iteration": 20, "total_loss": 2.0, "rpn/num_pos_anchors": 1.5},
    )
    assert result.status == 0, result.err
    assert result.out.strip() == (tmp_path / "metrics.md").read_text().strip()
    assert [row for row in cells_of(result.out) if "--" not in row[1]] == [
        ["sem_seg", "mIoU"],
        ["all", "50.0"],
        ["class", "IoU", "ACC"],
        ["road", "75.0", "80.0"],
        ["t-junction", "25.0", "nan"],
    ]


def test_no_evaluation_and_no_file_are_named(run):
    for lines in ((), ({"iteration": 1, "total_loss": 1.0},)):
        result = run(*lines)
        assert result.status == 1
        assert "metrics.json" in result.err and "Traceback" not in result.err
