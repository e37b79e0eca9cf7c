"""`srnet prepare`: every dataset by its command, to the tree that the scripts make."""

import pytest
from srnet.cli.main import main

NAMES = ["ade20k", "camvid", "camvid-coco", "cityscapes", "pascal-context", "scenes"]


@pytest.mark.parametrize("name", NAMES)
def test_help_of_every_dataset(name, capsys):
    with pytest.raises(SystemExit) as end:
        main(["prepare", name, "--help"])
    assert end.value.code == 0
    assert f"usage: srnet prepare {name}" in capsys.readouterr().out


def test_scenes_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    options = ["--train", "2", "--val", "1", "--size", "64x96"]
    assert main(["prepare", "scenes", *options]) == 0
    assert len(list((tmp_path / "scenes/images/train").iterdir())) == 2


def test_a_choice_of_releases_goes_through(tmp_path, capsys):
    assert main(["prepare", "camvid", "segnet", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"srnet: error: the folder {tmp_path}/train is missing\n"
    with pytest.raises(SystemExit) as end:
        main(["prepare", "camvid", "seg"])
    assert end.value.code == 2
    assert "invalid choice: 'seg'" in capsys.readouterr().err


def test_an_unknown_dataset_and_an_unknown_key_suggest_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        main(["prepare", "camvidd"])
    assert end.value.code == 2
    assert "did you mean camvid" in capsys.readouterr().err
    config = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
    assert main(["train", "--config-file", config, "MODEL.CONTEXT.NAM", "sr"]) == 1
    error = capsys.readouterr().err
    assert "there is no key MODEL.CONTEXT.NAM; the nearest are MODEL.CONTEXT.NAME" in error
    assert error.count("\n") == 1
