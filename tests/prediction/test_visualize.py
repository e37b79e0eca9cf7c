"""The pictures of predictions, for each kind of model, and the errors."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import BoxMode, Instances
from srnet import build_model, get_cfg
from srnet.data.datasets.camvid import CLASSES, VOID
from srnet.data.datasets.semantic_folders import load_semantic_folders
from srnet.prediction.visualize import titles_of, visualize
from srnet.visualization.scene import SceneVisualizer, legend_of, metadata_with_colors

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
DATASET = "visualized_sem_seg"
RED, BLUE, GREY = (200, 0, 0), (0, 0, 200), 100


@pytest.fixture(scope="module")
def dataset(small_camvid):
    """Three small labelled images under a name of their own."""
    folder = small_camvid / "camvid"
    load = partial(load_semantic_folders, str(folder / "val"), str(folder / "valannot"), prepare="")
    DatasetCatalog.register(DATASET, load)
    MetadataCatalog.get(DATASET).set(
        stuff_classes=[name for name, _ in CLASSES],
        stuff_colors=[list(color) for _, color in CLASSES],
        ignore_label=VOID,
        evaluator_type="sem_seg",
    )
    yield load()
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of random weights."""
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    model = build_model(get_cfg(CONFIG))
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.fixture
def draw(tmp_path, weights):
    """Draw with the options of `visualize`; the paths it wrote."""

    def run(*, weights=weights, **options):
        cfg = get_cfg(CONFIG, ["MODEL.WEIGHTS", str(weights), "DATASETS.TEST", f"('{DATASET}',)"])
        return visualize(cfg, output=str(tmp_path / "out"), **options)

    return run


def test_a_dataset_gets_a_picture_an_image_and_a_sheet(draw, dataset):
    *pictures, sheet = draw(num=2)
    stems = [record["image_id"] for record in dataset]
    assert [p.rsplit("/", 1)[1] for p in pictures] == [f"{stems[0]}.png", f"{stems[2]}.png"]
    one, all_ = cv2.imread(pictures[0]), cv2.imread(sheet)
    assert one.shape[1] == all_.shape[1] and all_.shape[0] > 1.4 * one.shape[0]
    assert one.std() > 10


def test_given_images_are_drawn_without_truth(draw, dataset, tmp_path):
    given = dataset[0]["file_name"]
    copy = tmp_path / "0000.png"
    copy.write_bytes(Path(given).read_bytes())
    pictures = draw(images=[given, str(copy)])
    assert len({*pictures}) == 3  # the second of one name did not replace the first
    width = cv2.imread(pictures[0]).shape[1]
    assert width / cv2.imread(draw(num=1)[0]).shape[1] == pytest.approx(2 / 3, abs=0.01)


def test_two_models_stand_side_by_side(dataset, weights, tmp_path):
    """The figure gets a column more; the second model draws something else."""
    torch.manual_seed(1)
    other = tmp_path / "other.pth"
    torch.save({"model": build_model(get_cfg(CONFIG)).state_dict()}, other)
    options = ["DATASETS.TEST", f"('{DATASET}',)", "MODEL.WEIGHTS"]
    cfgs = {str(w): get_cfg(CONFIG, [*options, str(w)]) for w in (weights, other)}
    pictures = [
        cv2.imread(visualize(shown, num=1, output=str(tmp_path / str(i)))[0])
        for i, shown in enumerate((cfgs[str(weights)], cfgs))
    ]
    widths = [picture.shape[1] for picture in pictures]
    assert widths[1] / widths[0] == pytest.approx(4 / 3, abs=0.01)
    third = widths[1] // 4
    left, right = (pictures[1][:, i * third : (i + 1) * third] for i in (2, 3))
    assert np.abs(left[40:-60].astype(int) - right[40:-60]).mean() > 3


def test_a_model_of_other_classes_is_not_drawn(dataset, weights):
    cfg = get_cfg("quick_schedules/mask_rcnn_R_18_FPN.yaml", ["MODEL.WEIGHTS", str(weights)])
    with pytest.raises(ValueError, match=f"80 thing_classes, and the dataset {DATASET} has 0"):
        visualize(cfg, dataset=DATASET)


@pytest.mark.parametrize(
    ("configs", "weights", "titles"),
    [
        (["a/x.yaml", "b/y.yaml"], ["1.pth", "2.pth"], ["x", "y"]),
        (["x.yaml", "x.yaml"], ["one/m.pth", "two/m.pth"], ["one", "two"]),
        (["x.yaml", "x.yaml"], ["o/m1.pth", "o/m2.pth"], ["m1", "m2"]),
    ],
)
def test_titles_tell_models_apart(configs, weights, titles):
    assert titles_of(configs, weights) == titles


def test_the_same_model_twice(tmp_path):
    with pytest.raises(ValueError, match=r"two models are the same: m\.pth, m\.pth"):
        titles_of(["x.yaml"] * 2, ["m.pth"] * 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"images": ["missing.jpg"]}, "image missing.jpg is missing"),
        ({"weights": "missing.pth"}, "MODEL.WEIGHTS=missing.pth is missing"),
        ({"weights": ""}, "no weights"),
        ({"dataset": "camvid"}, "no dataset 'camvid' is registered.*camvid_sem_seg_val"),
    ],
)
def test_what_is_missing_is_named(draw, dataset, options, message):
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        draw(**options)


def test_an_image_that_does_not_decode_is_named(draw, dataset, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        draw(images=[str(broken)])


@pytest.fixture
def visualizer():
    """A visualizer on a grey 60 x 80 image of one thing class and one stuff class."""
    metadata = Metadata(
        thing_classes=["car"],
        thing_colors=[RED],
        stuff_classes=["things", "road"],
        stuff_colors=[(0, 0, 0), BLUE],
        ignore_label=255,
    )
    return SceneVisualizer(np.full((60, 80, 3), GREY, np.uint8), metadata, names=False)


@pytest.fixture
def left():
    """The mask of the left half."""
    mask = torch.zeros(60, 80, dtype=torch.bool)
    mask[:, :40] = True
    return mask


def colors_of(picture):
    """The mean colours of the middles of the left and the right half."""
    height, width = picture.shape[:2]
    rows = slice(height // 4, height // 3)
    return [picture[rows, int(a * width) : int(b * width)].mean((0, 1)) for a, b in HALVES]


HALVES = ((0.1, 0.15), (0.85, 0.9))


def test_semantic_predictions_are_in_the_colours_of_their_classes(visualizer, left):
    logits = torch.stack([left, ~left]).float()
    a, b = colors_of(visualizer.draw_prediction({"sem_seg": logits}))
    assert np.allclose(a, 0.2 * GREY, atol=3)  # draw_sem_seg mixes with 0.8
    assert np.allclose(b, 0.2 * GREY + 0.8 * np.array(BLUE), atol=3)


def test_panoptic_predictions_are_drawn_before_the_others(visualizer, left):
    info = [
        {"id": 1, "isthing": True, "category_id": 0, "score": 0.9},
        {"id": 2, "isthing": False, "category_id": 1},
    ]
    output = {
        "panoptic_seg": (torch.where(left, 1, 2), info),
        "sem_seg": torch.zeros(2, 60, 80),
        "instances": Instances((60, 80), scores=torch.zeros(0)),
    }
    a, b = colors_of(visualizer.draw_prediction(output))
    assert a.argmax() == 0 and a[0] > a[2] + 50
    assert np.allclose(b, 0.3 * GREY + 0.7 * np.array(BLUE), atol=3)


@pytest.mark.parametrize("score, drawn", [(0.9, True), (0.1, False)])
def test_instances_are_drawn_from_a_score_on(visualizer, left, score, drawn):
    instances = Instances((60, 80), scores=torch.tensor([score]))
    instances.pred_classes = torch.tensor([0])
    instances.pred_masks = left[None]
    a, b = colors_of(visualizer.draw_prediction({"instances": instances}))
    assert (a[0] > a[2] + 50) == drawn
    assert np.allclose(b, GREY, atol=1)


def test_panoptic_truth_is_stuff_and_instances(visualizer, left, tmp_path):
    path = str(tmp_path / "stuff.png")
    cv2.imwrite(path, np.where(left, 0, 1).astype(np.uint8))  # 0 is all things: not drawn itself
    thing = {
        "bbox": [0, 0, 40, 60],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "segmentation": [[0, 0, 40, 0, 40, 60, 0, 60]],
    }
    a, b = colors_of(visualizer.draw_truth({"sem_seg_file_name": path, "annotations": [thing]}))
    assert a[0] > a[2] + 50
    assert np.allclose(b, 0.2 * GREY + 0.8 * np.array(BLUE), atol=3)


def test_no_truth_and_no_known_output(visualizer):
    assert visualizer.draw_truth({"file_name": "x.jpg"}) is None
    with pytest.raises(ValueError, match="depth"):
        visualizer.draw_prediction({"depth": 0})


def test_classes_without_colours_get_some():
    name = "visualized_without_colours"
    MetadataCatalog.get(name).set(stuff_classes=["a", "b"])
    try:
        legend = legend_of(metadata_with_colors(name))
    finally:
        MetadataCatalog.remove(name)
    assert list(legend) == ["a", "b"] and legend["a"] != legend["b"]


@pytest.fixture
def skipping(weights, tmp_path):
    """Draw with DATALOADER.SKIP_BAD_IMAGES."""

    def run(*images):
        options = ["MODEL.WEIGHTS", str(weights), "DATASETS.TEST", f"('{DATASET}',)"]
        cfg = get_cfg(CONFIG, [*options, "DATALOADER.SKIP_BAD_IMAGES", True])
        return visualize(cfg, output=str(tmp_path / "out"), images=images)

    return run


def test_an_image_that_does_not_decode_can_be_passed_over(skipping, dataset, tmp_path, caplog):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    picture, sheet = skipping(str(broken), dataset[0]["file_name"])
    assert picture.endswith("0000.png") and sheet.endswith("sheet.png")
    assert "broken.jpg" in caplog.text
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        skipping(str(broken))


@pytest.mark.parametrize("kind", ["another model", "other classes", "no checkpoint", "diverged"])
def test_weights_of_another_model_are_refused(draw, dataset, weights, tmp_path, kind):
    """A picture of noise would tell nothing."""
    saved = torch.load(weights)["model"]
    path = tmp_path / "foreign.pth"
    if kind == "another model":
        saved = {f"encoder.{name}": value for name, value in saved.items()}
    if kind == "other classes":
        options = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 19, "DATASETS.TRAIN", (), "DATASETS.TEST", ()]
        saved = build_model(get_cfg(CONFIG, options)).state_dict()
    if kind == "diverged":
        saved = {n: v * torch.nan if v.is_floating_point() else v for n, v in saved.items()}
    torch.save({"model": saved}, path)
    if kind == "no checkpoint":
        path.write_text("see the other folder")
    with pytest.raises(RuntimeError, match=str(path)):
        draw(weights=path, num=1)
    assert not list((tmp_path / "out").glob("*"))
