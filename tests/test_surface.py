"""`import srnet`: cheap, and all that a user needs."""

import subprocess
import sys

import pytest
import srnet


def run(code, folder):
    """Run a program in a fresh Python, and return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_importing_it_loads_nothing_else(tmp_path):
    code = "import sys, srnet; print({'torch', 'detectron2', 'yaml', 'numpy'} & set(sys.modules))"
    assert run(code, tmp_path) == "set()\n"


PROGRAM = """
import sys
from srnet import add_srnet_config
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
cfg = get_cfg(); from srnet import add_srnet_config; add_srnet_config(cfg)
print(cfg.MODEL.CONTEXT.REDUCTION, "camvid_sem_seg_train" in DatasetCatalog.list(),
      "SRSemanticSegmentor" in META_ARCH_REGISTRY, "build_dfnet_backbone" in BACKBONE_REGISTRY)
"""


def test_the_line_for_detectron2s_tools_registers_models_and_datasets(tmp_path):
    assert run(PROGRAM, tmp_path) == "2 True True True\n"


@pytest.mark.parametrize("name", srnet.__all__)
def test_each_name_can_be_used_first(name, tmp_path):
    """In a fresh Python, whatever was not imported before it."""
    code = f"import srnet; print(srnet.{name} is __import__('srnet', fromlist=['{name}']).{name})"
    assert run(code, tmp_path) == "True\n"


def test_all_names_are_found():
    names = {}
    exec("from srnet import *", names)
    assert set(srnet.__all__) <= set(names) and set(srnet.__all__) <= set(dir(srnet))
    assert names["get_cfg"] is srnet.model_zoo.get_cfg
    assert names["build_model"] is srnet.build_model


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'srnet' has no attribute 'get_config'"):
        srnet.get_config  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'build'"):
        from srnet import build  # noqa: F401
