"""What is said where an optional dependency is missing."""

import re
import sys

import pytest
from srnet.cli.errors import report
from srnet.data.datasets.cityscapes import load_instances
from srnet.data.prepare.cityscapes import draw
from srnet.evaluation import build_evaluator
from srnet.evaluation.cityscapes_labels import label_ids
from srnet.extras import EXTRAS, require_extra


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_a_missing_extra_is_named_with_what_installs_it(module, root, monkeypatch):
    if module != "wandb":  # no test needs it
        require_extra(module, "this test")  # it is installed here
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"^this test needs {module}, .*") as raised:
        require_extra(module, "this test")
    package = re.search(r"`pip install ([\w-]+)`", str(raised.value))[1]
    extra = re.search(r"extra `(\w+)`", str(raised.value))[1]
    (line,) = re.findall(rf"^{extra} = (.+)$", (root / "pyproject.toml").read_text(), re.M)
    assert f'"{package}"' in line


def test_an_evaluation_says_it_before_it_starts(monkeypatch):
    from srnet import get_cfg

    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    for dataset in ("cityscapes_fine_sem_seg_val", "cityscapes_fine_instance_seg_val"):
        with pytest.raises(ModuleNotFoundError, match=f"^evaluating {dataset} needs cityscapessc"):
            build_evaluator(get_cfg(), dataset)
    with pytest.raises(ModuleNotFoundError, match="writing Cityscapes' label ids needs"):
        label_ids()


@pytest.mark.parametrize("module", ["cityscapesscripts", "shapely"])
def test_reading_instances_of_cityscapes_says_it(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"instances of Cityscapes needs {module}, "):
        load_instances(str(tmp_path), "val")


def test_preparing_cityscapes_says_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    with pytest.raises(ModuleNotFoundError, match="labels of Cityscapes needs cityscapesscripts, "):
        draw(tmp_path / "polygons.json")


def test_a_command_says_it_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert report("srnet", lambda: require_extra("timm", "MODEL.TIMM")) == 1
    error = capsys.readouterr().err
    assert error.startswith("srnet: error: MODEL.TIMM needs timm, ") and error.count("\n") == 1
