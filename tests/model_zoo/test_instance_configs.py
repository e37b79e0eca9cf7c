"""The detectors' configs: Table IX, and Detectron2's own configs they are modelled on."""

from pathlib import Path

import pytest
import torch
from config_nodes import difference, flatten
from detectron2 import model_zoo
from srnet import get_cfg
from srnet.modeling import build_context

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FOLDERS = ("COCO-InstanceSegmentation", "COCO-PanopticSegmentation")
FOLDERS += ("Cityscapes-InstanceSegmentation", "quick_schedules")
FOLDERS += ("CamVid-InstanceSegmentation", "CamVid-PanopticSegmentation")
FILES = sorted(
    str(path.relative_to(CONFIGS))
    for folder in FOLDERS
    for path in (CONFIGS / folder).glob("*.yaml")
    if path.name.startswith(("mask", "cascade", "panoptic", "scenes_panoptic"))
)
# Table IX: (a) and (b).
DETECTORS = [f"mask_rcnn_{b}" for b in ("R_50", "R_101", "X_101_32x4d", "X_101_32x8d")]
DETECTORS += [f"cascade_mask_rcnn_X_101_{width}" for width in ("32x4d", "32x8d")]
MODULES = ("", "_NL", "_SR")
ROWS = [f"{FOLDERS[0]}/{d}_FPN{m}_1x.yaml" for d in DETECTORS for m in MODULES]
ROWS += [f"{FOLDERS[1]}/panoptic_fpn_{b}{m}_1x.yaml" for b in ("R_50", "R_101") for m in MODULES]


# Detectron2's parts by the names of this project, which draw and average otherwise.
GLOBAL_BATCH = {f"MODEL.{key}.NAME" for key in ("PROPOSAL_GENERATOR", "ROI_HEADS", "SEM_SEG_HEAD")}


def load(name):
    return get_cfg(name, ["MODEL.DEVICE", "cpu"])


def test_every_row_of_table_ix_has_a_config():
    assert set(ROWS) <= set(FILES)


def test_the_modules_have_the_sizes_of_table_ix():
    """Three modules on a 2048 x 25 x 38 map: SR 0.56 G, Non-local with 1024 channels inside."""
    context = load(ROWS[2]).MODEL.CONTEXT
    module = build_context(context, 2048)
    per_position = sum(p.numel() for p in module.parameters() if p.ndim == 4)
    assert round(3 * per_position * 25 * 38 / 1e9, 2) == 0.56
    module = build_context(load(ROWS[1]).MODEL.CONTEXT, 2048)
    assert module.theta.weight.shape[:2] == torch.Size([1024, 2048])


def in_detectron2(name):
    """The name of a config in Detectron2's zoo."""
    folder, file = name.split("/")
    if file.startswith("cascade"):
        folder = "Misc"
    return f"{folder.replace('Cityscapes-InstanceSegmentation', 'Cityscapes')}/{file}"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FILES
        if (Path(model_zoo.__file__).parent / "configs" / in_detectron2(name)).exists()
    ],
)
def test_baselines_are_detectron2s(name):
    """A baseline differs in the names of parts, which without a module are the same."""
    theirs = model_zoo.get_config(in_detectron2(name))
    theirs.MODEL.DEVICE = "cpu"
    own = set(dict(flatten(get_cfg()))) - set(dict(flatten(theirs)))
    cfg = load(name)
    assert difference(cfg, theirs) - own - GLOBAL_BATCH == {"MODEL.BACKBONE.NAME", "OUTPUT_DIR"}
    for key in ("PROPOSAL_GENERATOR", "ROI_HEADS", "SEM_SEG_HEAD"):
        ours = cfg.MODEL[key].NAME.replace("GlobalBatchROI", "StandardROI")
        assert ours.replace("GlobalBatch", "") == theirs.MODEL[key].NAME


@pytest.mark.parametrize("name", [n for n in FILES if n.endswith("finetune.yaml")])
def test_fine_tuning_begins_at_the_zoo_model_of_the_same_network(name):
    cfg = load(name)
    zoo_name = in_detectron2(name.replace("_SR", "").replace("_finetune", "_3x"))
    url = model_zoo.get_checkpoint_url(zoo_name)
    prefix = "https://dl.fbaipublicfiles.com/detectron2/"
    assert url.replace(prefix, "detectron2://") == cfg.MODEL.WEIGHTS
    theirs = model_zoo.get_config(zoo_name)
    theirs.MODEL.DEVICE = "cpu"
    ignored = {"MODEL.BACKBONE.NAME", "MODEL.WEIGHTS", *GLOBAL_BATCH}
    model = {key for key in difference(cfg, theirs) if key.startswith(("MODEL.", "INPUT."))}
    own = set(dict(flatten(get_cfg()))) - set(dict(flatten(theirs)))
    assert model - own <= ignored
