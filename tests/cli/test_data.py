"""`srnet data`: what is wrong with each file, what is there, and what the model sees."""

import json

import numpy as np
import own_data
import pytest
from PIL import Image
from srnet import get_cfg
from srnet.data import build_mapper, build_train_loader

CAMVID = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
MASK_RCNN = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
SMALL = {"DATALOADER": {"NUM_WORKERS": 0}, "SOLVER": {"IMS_PER_BATCH": 2}, "SEED": 3}
CROPS = {**SMALL, "INPUT": {"CROP": {"SIZE": [64, 64]}, "MIN_SIZE_TRAIN": [48, 96]}}


@pytest.fixture(autouse=True)
def in_its_own_folder(datasets_forgotten, monkeypatch, tmp_path):
    """Derived files go to the test's folder, and its datasets are forgotten after it."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with datasets_forgotten("own_"):
        yield


def check(srnet, config, workers=0):
    return srnet("data", "check", "--config-file", config, "--workers", workers)


def semantic_config(tmp_path):
    entries, labels = [], {}
    for split in ("train", "test"):
        entry, labels[split] = own_data.semantic(tmp_path / "data", split)
        entries.append(entry)
    return own_data.write_config(tmp_path / "own.yaml", CAMVID, entries, **CROPS), labels


@pytest.mark.parametrize("workers", [0, 2])
def test_check_counts_what_is_there(srnet, tmp_path, cells_of, workers):
    config, labels = semantic_config(tmp_path)
    result = check(srnet, config, workers)
    assert result.status == 0 and result.out.count("Nothing is wrong.") == 2
    assert "own_train: 4 images, 64 x 96 (height x width in pixels)" in result.out
    rows = {row[0]: row for row in cells_of(result.out.split("own_test:")[0])}
    found = np.stack(labels["train"])
    for index, name in enumerate(own_data.CLASSES):
        images = sum((label == index).any() for label in labels["train"])
        share = f"{100 * (found == index).mean():.2f}"
        assert rows[name][1:] == [str(images), str((found == index).sum()), share]
    assert int(rows["(ignored)"][2]) == (found == 255).sum()


def test_check_names_each_bad_file_and_reads_the_others(srnet, tmp_path):
    config, _ = semantic_config(tmp_path)
    images, labels = tmp_path / "data/images/train", tmp_path / "data/labels/train"
    (images / "0.jpg").write_bytes(b"<html>")
    (labels / "1.png").unlink()
    wrong = np.array(Image.open(labels / "2.png"))
    wrong[40, 7] = (1, 2, 3)
    Image.fromarray(wrong).save(labels / "2.png")
    Image.open(labels / "3.png").crop((0, 0, 50, 50)).save(labels / "3.png")
    result = check(srnet, config)
    assert result.status == 1
    assert result.err.splitlines()[-1] == "srnet: error: 4 findings in own_train"
    assert f"cannot read the image {images / '0.jpg'}" in result.out
    assert f"{images / '1.jpg'} has no label {labels / '1.png'}" in result.out
    assert f"{labels / '2.png'} has the colour [1, 2, 3] at x=7, y=40 (1 pixels" in result.out
    assert f"{images / '3.jpg'} is 96 x 64 pixels, its label" in result.out
    assert "own_test: 4 images" in result.out


def test_check_of_instances_counts_and_finds(srnet, tmp_path, cells_of):
    entry, content = own_data.instances(tmp_path / "data", "train")
    test, other = own_data.instances(tmp_path / "data", "test")
    config = own_data.write_config(tmp_path / "own.yaml", MASK_RCNN, [entry, test], **SMALL)
    result = check(srnet, config)
    assert result.status == 0
    rows = {row[0]: row[1:] for row in cells_of(result.out)}
    assert rows["bus"] == ["0", "0"] and rows["car"] == rows["sign"] == ["4", "4"]
    content["annotations"][0]["category_id"] = 1
    content["annotations"][1]["bbox"] = [0, 0, 500, 5]
    (tmp_path / "data" / "train.json").write_text(json.dumps(content))
    (tmp_path / "data/images/test/2.jpg").unlink()
    other["images"][0]["height"] = 60
    (tmp_path / "data" / "test.json").write_text(json.dumps(other))
    result = check(srnet, config)
    assert result.status == 1
    assert "has category_id 1, which is not among the file's categories" in result.out
    assert "which reaches beyond the image's 96 x 64 pixels" in result.out
    assert f"cannot read the image {tmp_path / 'data/images/test/2.jpg'}" in result.out
    assert "0.jpg is 96 x 64 pixels, and its annotations say 96 x 60" in result.out


def test_check_of_panoptic_pngs(srnet, tmp_path):
    entry, _ = own_data.panoptic(tmp_path / "data", "train")
    base = "quick_schedules/panoptic_fpn_R_18_SR.yaml"
    config = own_data.write_config(tmp_path / "own.yaml", base, [entry], **SMALL)
    assert check(srnet, config).status == 0
    path = tmp_path / "data/panoptic/train/2.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] = (7, 0, 0)
    Image.fromarray(pixels).save(path)
    result = check(srnet, config)
    assert result.status == 1
    assert f"{path}, of the image with id 42, draws segments that segments_info lacks: 7" in (
        result.out
    )


def test_browse_draws_the_stream_of_the_training(srnet, tmp_path, monkeypatch):
    config, _ = semantic_config(tmp_path)
    drawn = []
    monkeypatch.setattr(
        "srnet.visualization.browse.draw_sheet", lambda path, rows, *_, **__: drawn.extend(rows)
    )
    result = srnet("data", "browse", "--config-file", config, "--num", 3, "--output", tmp_path)
    assert result.status == 0, result.err
    cfg = get_cfg(config)
    loader = iter(build_train_loader(cfg, build_mapper(cfg, is_train=True)))
    samples = [*next(loader), *next(loader)][:3]
    assert len(drawn) == 3
    for row, sample in zip(drawn, samples, strict=True):
        rgb = sample["image"].numpy().astype(np.uint8)
        rgb = rgb[::-1] if cfg.INPUT.FORMAT == "BGR" else rgb
        assert np.array_equal(row["image"], rgb.transpose(1, 2, 0))


@pytest.mark.parametrize("kind", ["semantic", "instances", "panoptic"])
def test_browse_writes_sheets(srnet, tmp_path, kind):
    entry, _ = getattr(own_data, kind)(tmp_path / "data", "train")
    base = {"semantic": CAMVID, "instances": MASK_RCNN}.get(
        kind, "quick_schedules/panoptic_fpn_R_18_SR.yaml"
    )
    options = CROPS if kind == "semantic" else {**SMALL, "INPUT": {"MIN_SIZE_TRAIN": [64]}}
    config = own_data.write_config(tmp_path / "own.yaml", base, [entry], **options)
    words = ["--config-file", config, "--num", 9, "OUTPUT_DIR", tmp_path / "out"]
    result = srnet("data", "browse", *words)
    assert result.status == 0, result.err
    sheets = [tmp_path / "out" / "browse" / f"sheet_{i}.png" for i in (1, 2)]
    assert result.out.split() == [str(path) for path in sheets]
    first, second = (Image.open(path).size for path in sheets)
    assert first[0] > second[0] and first[1] > second[1]  # 8 samples, then one


def test_browse_of_mixed_images_says_the_shares(srnet, tmp_path, monkeypatch):
    for c, color in (("cat", 40), ("dog", 200)):
        (tmp_path / "data" / c).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (40, 32), (color,) * 3).save(tmp_path / "data" / c / f"{i}.png")
    entry = {"NAME": "own_train", "KIND": "image_folder", "FOLDER": str(tmp_path / "data")}
    sizes = {"CLASSIFICATION": {"SIZE": 32, "MIXUP": 1.0}}
    base = "ImageNet-Classification/resnet_18_SR.yaml"
    config = own_data.write_config(
        tmp_path / "own.yaml", base, [entry], **{**SMALL, "INPUT": sizes}
    )
    texts = []
    from srnet.visualization.browse import SceneVisualizer

    draw = SceneVisualizer.draw_text
    monkeypatch.setattr(
        SceneVisualizer, "draw_text", lambda s, t, *a, **k: (texts.append(t), draw(s, t, *a, **k))
    )
    result = srnet("data", "browse", "--config-file", config, "--num", 8, "--output", tmp_path)
    assert result.status == 0, result.err
    assert len(texts) == 8 and any("cat + " in text or "dog + " in text for text in texts)
