"""All configs: twins differ in the context node alone, and no chain of `_BASE_` is long."""

import re

import pytest
import yaml
from config_nodes import difference
from srnet import get_cfg
from srnet.model_zoo.names import CONFIGS, config_names

MODULES = {"SR": "sr", "NL": "nl", "SE": "se", "CBAM": "cbam"}


def baseline(name):
    """The name of a twin's baseline; the name itself where it is no twin's."""
    name = re.sub(rf"_({'|'.join(MODULES)})(?=[_.])", "", name)
    return name.replace("srnet_WR", "deeplabv3plus_WR").replace("srnet_", "fcn_")


TWINS = [name for name in config_names() if baseline(name) != name]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_differs_from_its_baseline_in_the_context_alone(name):
    cfg, plain = get_cfg(name), get_cfg(baseline(name))
    tag = re.search(rf"_({'|'.join(MODULES)})[_.]", name)
    module = MODULES[tag[1]] if tag else "sr"
    if "Classification" in name and module == "sr":
        module = "sr_gate"
    assert module == cfg.MODEL.CONTEXT.NAME
    # DF-Seg has pyramid pooling where SR stands.
    pooling = name.split("/")[-1].startswith(("dfnet", "lite0")) and "SemanticSegmentation" in name
    assert ("psp" if pooling else "") == plain.MODEL.CONTEXT.NAME
    expected = {"MODEL.CONTEXT.NAME", "OUTPUT_DIR"}
    if module == "nl":  # the paper's has half of the channels inside, SR a 64th
        expected |= {"MODEL.CONTEXT.REDUCTION"}
    assert difference(cfg, plain) == difference(plain, cfg) == expected


def test_every_config_with_a_module_is_a_twin():
    others = [name for name in config_names() if name not in TWINS]
    assert len(TWINS) >= 60
    # Table IX's seven modules, and Table IV's rows with a head of their own.
    special = {name for name in others if re.search(r"_SR7_|/(pspnet|deeplabv3)_R_50", name)}
    assert len(special) == 5
    assert {get_cfg(name).MODEL.CONTEXT.NAME for name in set(others) - special} == {"", "psp"}
    assert {baseline(name) for name in TWINS} <= set(others)


def depth(path):
    """How many files follow one another from a config to its last base, itself among them."""
    bases = yaml.safe_load(path.read_text()).get("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    return 1 + max((depth(path.parent / base) for base in bases), default=0)


def test_a_config_its_base_and_that_ones_base_are_all():
    assert {depth(path) for path in CONFIGS.rglob("*.yaml")} == {1, 2, 3}


def test_every_base_file_is_used_and_output_dirs_are_left_to_the_names():
    used = set()
    for path in CONFIGS.rglob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        assert "OUTPUT_DIR" not in content, path
        bases = content.get("_BASE_", [])
        bases = [bases] if isinstance(bases, str) else bases
        used |= {(path.parent / base).resolve() for base in bases}
    assert {path.resolve() for path in CONFIGS.rglob("Base-*.yaml")} <= used
