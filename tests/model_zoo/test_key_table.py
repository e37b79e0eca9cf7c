"""The documentation of the keys: made from the code, complete and current."""

from config_nodes import flatten
from detectron2.config import get_cfg as detectron2_cfg
from detectron2.projects.deeplab import add_deeplab_config
from srnet.cli.main import main
from srnet.config import add_srnet_config
from srnet.model_zoo.config import ALL_RANGES
from srnet.model_zoo.key_table import read_meanings


def ours():
    cfg = detectron2_cfg()
    add_deeplab_config(cfg)
    theirs = {key for key, _ in flatten(cfg)}
    add_srnet_config(cfg)
    return {key: value for key, value in flatten(cfg) if key not in theirs}


def test_the_page_is_current(root, capsys):
    assert main(["config", "--keys"]) == 0
    page = (root / "docs" / "CONFIG.md").read_text()
    assert capsys.readouterr().out == page, "run `srnet config --keys > docs/CONFIG.md`"


def test_every_key_has_a_meaning():
    meanings = read_meanings()
    assert set(ours()) <= set(meanings)
    assert len(ours()) > 50
    assert [key for key, meaning in meanings.items() if not meaning] == []


def test_every_key_has_a_range_or_is_a_switch_a_path_or_a_name():
    paths = {"DATASETS.IMAGE_FOLDER_TRAIN", "DATASETS.IMAGE_FOLDER_TEST", "MODEL.TIMM.WEIGHTS"}
    # The training checks the metric, with its datasets; Weights & Biases takes any name.
    paths |= {"TEST.BEST_CHECKPOINT.METRIC", "WANDB.PROJECT", "WANDB.NAME"}
    left = {key for key, value in ours().items() if key not in ALL_RANGES}
    assert {key for key in left if not isinstance(ours()[key], bool)} == paths


def test_every_range_is_of_a_key():
    cfg = detectron2_cfg()
    add_srnet_config(cfg)
    assert set(ALL_RANGES) <= {key for key, _ in flatten(cfg)}


def test_a_row_shows_default_range_and_meaning(root):
    page = (root / "docs" / "CONFIG.md").read_text()
    assert "| NUM_NODES | `16` | 1 or more | Nodes of the graph: K; P / K channels each. |" in page
    assert "| SOLVER.MAX_ITER | `40000` | 1 or more |" in page
