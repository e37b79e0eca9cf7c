"""The wheel and the sdist: what is in them, and that they work away from the checkout."""

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import own_data
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What packages are called where the import has another name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "panopticapi": "panopticapi-lite",
    "yaml": "pyyaml",
}
LARGEST_WHEEL = 25e6  # bytes; most of them are trained weights
DETECTRON2 = "detectron2"  # INSTALL.md says why it cannot be a dependency


@pytest.fixture(scope="module")
def source(root, tmp_path_factory):
    """A copy of the checkout's files, so that building writes nothing into the checkout."""
    copy = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).exists():  # a deleted file is still in the index
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def configs(source):
    """The YAML files of the model zoo: the configs, and the table of trained weights."""
    folder = source / "projects/SRNet"
    zoo = folder / "srnet/model_zoo"
    return {f"{f.relative_to(folder)}" for f in zoo.rglob("*.yaml")}


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run_pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", code, folder], cwd=source)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """Runs Python with what the wheel installed, in an empty folder: elsewhere(*arguments)."""
    target = tmp_path_factory.mktemp("installed")
    run_pip("install", "--target", target, wheel)
    empty = tmp_path_factory.mktemp("empty")

    def python(*arguments, cwd=empty):
        environment = {**os.environ, "PYTHONPATH": str(target)}
        return run([sys.executable, *arguments], cwd=cwd, env=environment)

    python.target = target
    return python


def run(command, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def run_pip(*arguments):
    options = ["--disable-pip-version-check", "--no-deps", "--no-index"]
    run([sys.executable, "-m", "pip", *arguments[:1], *options, *arguments[1:]])


def test_the_wheel_holds_the_package_alone(wheel, configs, source):
    names = zipfile.ZipFile(wheel).namelist()
    files = {name for name in names if ".dist-info/" not in name}
    assert len(names) == len(set(names))
    assert {name for name in files if name.endswith(".yaml")} == configs
    modules = (source / "projects/SRNet").glob("srnet/**/*.py")
    assert {name for name in files if name.endswith(".py")} == {
        str(module.relative_to(source / "projects/SRNet")) for module in modules
    }
    rest = {name for name in files if not name.endswith((".py", ".yaml"))}
    trained = source / "projects/SRNet/srnet/model_zoo/trained"
    weights = {f"srnet/model_zoo/trained/{file.name}" for file in trained.iterdir()} - configs
    texts = {"srnet/py.typed", "srnet/data/datasets/imagenet_synsets.txt"}
    assert rest == texts | {name for name in weights if not name.endswith(".yaml")}
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_the_wheel_installs_the_command(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    entries = configparser.ConfigParser()
    entries.read_string(archive.read(name).decode())
    assert dict(entries["console_scripts"]) == {"srnet": "srnet.cli.main:main"}


def test_the_sdist_holds_what_the_wheel_is_built_from(sdist, configs, wheel):
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym()]
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    inside = {name.removeprefix("projects/SRNet/") for name in files}
    assert {name for name in inside if name.endswith(".yaml")} == configs
    built = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert built <= inside
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE"} <= files
    assert not [name for name in files if name.startswith("tests/")]


def test_an_installed_wheel_reads_its_configs(elsewhere):
    code = (
        "import srnet; print(srnet.__file__)\n"
        "cfg = srnet.get_cfg('COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_SR_1x.yaml')\n"
        "print(cfg.MODEL.CONTEXT.NAME)"
    )
    place, name = elsewhere("-c", code).splitlines()[-2:]
    assert place == str(elsewhere.target / "srnet" / "__init__.py")
    assert name == "sr"


# From the data to files a program reads, as a user types it; one Python for all of it saves time.
OWN_DATA = """
import sys
from srnet.cli.main import main

out, pictures, *save = sys.argv[1:]
config, trained = "own.yaml", ["MODEL.WEIGHTS", f"{out}/model_final.pth"]
for command in (
    ["data", "check", "--config-file", config],
    ["train", "--config-file", config],
    ["eval", "--config-file", config, *trained, "OUTPUT_DIR", f"{out}/again"],
    ["predict", "--config-file", config, *trained, "--input", pictures, "--output", "seen"]
    + ["--confidence", "0", "--save", *save],
):
    assert main(command) == 0, command
"""
SHORT = {"SOLVER": {"MAX_ITER": 1, "IMS_PER_BATCH": 2}, "DATALOADER": {"NUM_WORKERS": 0}}
CROPS = {"INPUT": {"CROP": {"SIZE": [64, 64]}, "MIN_SIZE_TRAIN": [48, 96]}}
FEW_BOXES = {
    "INPUT": {"MIN_SIZE_TRAIN": [64], "MIN_SIZE_TEST": 64},
    "MODEL": {"WEIGHTS": "", "RPN": {"POST_NMS_TOPK_TEST": 20}},
}


@pytest.fixture
def own(elsewhere, tmp_path, monkeypatch):
    """Everything with own data, from the wheel: own(base, draw, *forms, **groups).

    Returns the folder of the run and that of the predictions.
    """
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)

    def run(base, draw, *forms, **groups):
        entries = [draw(tmp_path / "data", split)[0] for split in ("train", "test")]
        out = tmp_path / "out"
        options = {**SHORT, **groups, "OUTPUT_DIR": str(out)}
        own_data.write_config(tmp_path / "own.yaml", base, entries, **options)
        elsewhere("-c", OWN_DATA, out, tmp_path / "data/images/test", *forms, cwd=tmp_path)
        return out, tmp_path / "seen"

    return run


def last_line(path):
    return json.loads((path / "metrics.json").read_text().splitlines()[-1])


def test_an_installed_wheel_takes_own_semantic_data_by_config_alone(own):
    out, seen = own(
        "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml", own_data.semantic, "labels", **CROPS
    )
    for folder in (out, out / "again"):
        found = json.loads((folder / "inference/own_test_iou.json").read_text())
        assert list(found["classes"]) == list(own_data.CLASSES)
    classes = json.loads((seen / "labels/classes.json").read_text())["classes"]
    assert [tuple(c["color"]) for c in classes] == list(own_data.COLORS)
    assert len(list((seen / "labels").glob("?.png"))) == 4


def test_an_installed_wheel_takes_coco_instances_of_ids_7_12_90_by_config_alone(own):
    base = "quick_schedules/mask_rcnn_R_18_FPN_SR.yaml"
    out, seen = own(base, own_data.instances, "coco", "pictures", **FEW_BOXES)
    assert {"bbox/AP-bus", "segm/AP-car", "segm/AP-sign"} <= last_line(out).keys()
    for path in (out / "again/inference/coco_instances_results.json", seen / "coco_results.json"):
        assert {x["category_id"] for x in json.loads(path.read_text())} <= {7, 12, 90}
    categories = json.loads((seen / "coco_images.json").read_text())["categories"]
    assert [(c["id"], c["name"]) for c in categories] == [(7, "bus"), (12, "car"), (90, "sign")]
    assert len(list((seen / "pictures").glob("*.jpg"))) == 4


def test_an_installed_wheel_takes_own_panoptic_data_by_config_alone(own):
    base = "quick_schedules/panoptic_fpn_R_18_SR.yaml"
    out, seen = own(base, own_data.panoptic, "panoptic", **FEW_BOXES)
    assert {"panoptic_seg/PQ", "segm/AP", "sem_seg/IoU-road"} <= last_line(out).keys()
    assert (out / "again/inference").is_dir()
    written = json.loads((seen / "panoptic.json").read_text())
    things = {c["id"]: c["isthing"] for c in written["categories"]}
    assert things == {0: 0, 5: 0, 9: 1, 30: 1}
    assert len(written["annotations"]) == 4
    found = {s["category_id"] for a in written["annotations"] for s in a["segments_info"]}
    assert found <= {0, 5, 9, 30}


def test_an_installed_wheel_has_the_trained_weights(elsewhere):
    code = (
        "from srnet import model_zoo\n"
        "model_zoo.get(model_zoo.default_model(), trained=True, device='cpu')\n"
        "print(model_zoo.get_checkpoint_url(model_zoo.default_model()))"
    )
    place = elsewhere("-c", code).splitlines()[-1]
    assert place.startswith(f"{elsewhere.target}/srnet/model_zoo/trained/")


def test_an_installed_wheel_has_the_command(elsewhere):
    if not (elsewhere.target / "srnet" / "__main__.py").exists():
        pytest.skip("srnet/__main__.py does not exist yet")
    assert "usage: srnet" in elsewhere("-m", "srnet", "--help")


PREDICT = """
import torch
from PIL import Image
from srnet import build_model, get_cfg
from srnet.cli.main import main

config = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
torch.save({"model": build_model(get_cfg(config)).state_dict()}, "model.pth")
for name, mode in (("a.jpg", "RGB"), ("b.png", "RGBA"), ("c.tif", "I;16")):
    Image.new(mode, (64, 48)).save(name)
open("bad.png", "w").write("no picture")
words = ["--config-file", config, "--weights", "model.pth", "--input", ".", "--output", "out"]
print(main(["predict", *words, "--save", "pictures", "labels"]))
"""


def test_an_installed_wheel_predicts_good_and_bad_files(elsewhere):
    assert elsewhere("-c", PREDICT).split()[-1] == "1"  # one file could not be read
    names = "import os; print(*sorted(os.listdir('out/pictures') + os.listdir('out/labels')))"
    made = ["a.jpg", "a.png", "b.jpg", "b.png", "c.jpg", "c.png", "classes.json"]
    assert elsewhere("-c", names).split() == made


def test_the_version_is_the_packages(wheel, root):
    code = (root / "projects/SRNet/srnet/__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"', code, re.M)[1]
    assert wheel.name.startswith(f"srnet-{version}-")


def imported_by(folder):
    """The top-level names that the Python files of a folder import, in functions too."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def requirement_name(line):
    return re.match(r"[\w.-]+", line)[0].lower()


def test_the_metadata_name_what_the_package_imports(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    required = {requirement_name(line) for line in project["dependencies"]}
    optional = {
        requirement_name(line)
        for extra, lines in project["optional-dependencies"].items()
        if extra != "dev"
        for line in lines
    }
    imported = imported_by(root / "projects/SRNet/srnet") - sys.stdlib_module_names
    imported -= {"srnet", DETECTRON2}
    found = {DISTRIBUTIONS.get(name, name).lower() for name in imported}
    assert required <= found <= required | optional
    # The lock has them all but Weights & Biases, which no test needs, and the tools of development.
    everything = (required | optional) - {"wandb"}
    everything |= {requirement_name(n) for n in project["optional-dependencies"]["dev"]}
    wanted = (root / "requirements/main.in").read_text().lower().splitlines()
    assert everything <= {requirement_name(line) for line in wanted if line and line[0] != "#"}
