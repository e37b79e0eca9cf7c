"""Configs, changed in every way: read as they are written, or refused with file and key."""

import pytest
import yaml
from bad_inputs import CHANGES, Error, attempt, changed, file_changes, place_name, places
from config_nodes import flatten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from srnet import get_cfg

pytestmark = pytest.mark.fault("strangers: configs")
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
CONTENT = {
    "MODEL": {
        "META_ARCHITECTURE": "SRSemanticSegmentor",
        "BACKBONE": {"NAME": "build_dfnet_context_backbone", "FREEZE_AT": 0},
        "PIXEL_MEAN": [103.5, 116.3, 123.7],
        "CONTEXT": {"NAME": "sr", "NUM_NODES": 16, "STAGES": ["stage3", "stage4"]},
        "SEM_SEG_HEAD": {"IN_FEATURES": ["stage4"]},
        "MASK_ON": False,
        "DEVICE": "cpu",
        "WEIGHTS": "model.pth",
    },
    "DATASETS": {"TRAIN": [], "TEST": []},
    "INPUT": {"MIN_SIZE_TRAIN": [180, 720], "CROP": {"SIZE": [64, 64], "ENABLED": False}},
    "SOLVER": {"BASE_LR": 0.01, "MAX_ITER": 100, "STEPS": [60, 80]},
    "OUTPUT_DIR": "output/run",
    "VERSION": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


def read(folder, content, *opts):
    """Read a config file: the config, or an error that names the file or a key."""
    path = folder / "bad.yaml"
    text = content if isinstance(content, bytes) else yaml.safe_dump(content).encode()
    path.write_bytes(text)
    keys = ("MODEL.", "DATASETS.", "INPUT.", "SOLVER.", "OUTPUT_DIR", "VERSION")
    return attempt(lambda: get_cfg(path, opts), folder, str(path), *keys)


def value_of(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def check(found, content):
    """What is read has the values of the file, in the types that Detectron2 gives these keys."""
    if isinstance(found, Error):
        return
    default = get_cfg()
    for key, value in flatten(content):
        got, start = value_of(found, key), value_of(default, key)
        assert type(got) is type(start), key
        plain = list(got) if isinstance(got, tuple) else got
        assert plain in (value, list(value) if isinstance(value, tuple) else value) or isinstance(
            value, str
        ), key


CHANGED = {
    f"{place_name(path)} {name}": made
    for path in places(CONTENT)
    if not isinstance(path[-1], int)
    for name in CHANGES
    if (made := changed(CONTENT, path, name)) is not None
}


def test_the_right_file_is_read(folder):
    found = read(folder, CONTENT)
    assert not isinstance(found, Error)
    check(found, CONTENT)


@pytest.mark.parametrize("start", range(0, len(CHANGED), 25))
def test_one_change(folder, tried, start):
    for name in list(CHANGED)[start : start + 25]:
        tried(f"config: {name}")
        check(read(folder, CHANGED[name]), CHANGED[name])


@pytest.mark.parametrize("key", [key for key, _ in flatten(CONTENT)])
def test_keys_that_are_not_there(folder, tried, key):
    *above, name = key.split(".")
    kinds = {"a letter less": name[:-1], "small letters": name.lower(), "a space": f"{name} "}
    for kind, wrong in kinds.items():
        tried(f"config: {key} with {kind}")
        made = {wrong: 1}
        for part in reversed(above):
            made = {part: made}
        found = read(folder, made)
        assert "there is no key" in found and name in found


@pytest.mark.parametrize("name", file_changes(b""))
def test_what_may_become_of_the_file(folder, tried, name):
    tried(f"config: the file is {name}")
    text = yaml.safe_dump(CONTENT).encode()
    found = read(folder, file_changes(text)[name])
    if name in ("with a byte order mark", "without its last byte"):  # YAML takes both
        assert not isinstance(found, Error) and found == read(folder, CONTENT)
    else:
        assert isinstance(found, Error)


def doubled(text, kind):
    """Forty times a list or mapping of two of what is before: a few lines, and 2**40 values."""
    for i in range(40):
        first, second = f"&a{i} {text}", f"*a{i}"
        text = f"[{first}, {second}]" if kind == "list" else f"{{a: {first}, b: {second}}}"
    return text


PLACES = ("DATASETS: {TRAIN: %s}", "OUTPUT_DIR: %s", "MODEL: %s", "SOLVER: {STEPS: %s}")
PLACES += ("_BASE_: %s", "DATASETS: {CUSTOM: %s}", "NOTHING: %s")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["list", "mapping"])
def test_aliases_that_stand_for_billions_of_values(folder, tried, place, kind):
    tried(f"config: {kind} of aliases in {place}")
    found = read(folder, (place % doubled("x", kind)).encode())
    assert "aliases (*) make more than 100000 values" in found and len(found) < 500


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "&a {b: [1, {c: *a}]}"])
def test_an_alias_inside_of_itself(folder, tried, text):
    tried(f"config: {text}")
    for place in PLACES:
        assert "inside of what it names" in read(folder, (place % text).encode())


def test_aliases_as_they_are_meant(folder):
    text = b"MODEL: {PIXEL_MEAN: &a [1.0, 2.0, 3.0], PIXEL_STD: *a}"
    found = read(folder, text)
    assert list(found.MODEL.PIXEL_STD) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("twice", [True, False])
def test_bases_without_end(folder, tried, twice):
    """Each file names the next one, twice or once."""
    tried(f"config: 200 bases, each named {'twice' if twice else 'once'}")
    for i in range(200):
        names = f"[step{i + 1}.yaml{f', step{i + 1}.yaml' if twice else ''}]"
        (folder / f"step{i}.yaml").write_text(f"_BASE_: {names}\n")
    (folder / "step200.yaml").write_text("VERSION: 2\n")
    assert "builds on more than 100 files" in read(folder, {"_BASE_": "step0.yaml"})


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-this-name/x.yaml", "a\0b"])
def test_names_of_bases(folder, tried, name):
    tried(f"config: _BASE_ {name[:20]!r}")
    found = read(folder, {"_BASE_": name})
    assert isinstance(found, Error) and len(found) < 500


def test_a_device_as_base(folder):
    (folder / "device.yaml").write_text("_BASE_: /dev/zero")
    with pytest.raises(ValueError, match=r"^/dev/zero is not a regular file"):
        get_cfg(folder / "device.yaml")


@settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(st.data())
def test_text_that_is_cut_or_flipped(folder, tried, data):
    text = yaml.safe_dump(CONTENT).encode()
    place = data.draw(st.integers(0, len(text) - 1))
    if data.draw(st.booleans()):
        tried("config: the text is cut off")
        text = text[:place]
    else:
        tried("config: a byte is another")
        text = text[:place] + bytes([data.draw(st.integers(0, 255))]) + text[place + 1 :]
    found = read(folder, text)
    assert isinstance(found, Error) or found.VERSION == 2


@settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(
    st.sampled_from([key for key, _ in flatten(CONTENT)]),
    st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from(["((", "{'a': 1}", "1e999"]),
)
def test_values_on_the_command_line(folder, tried, key, text):
    """They keep the type of the key, or are refused with it."""
    tried(f"config: any text for {key} on the command line")
    found = read(folder, CONTENT, key, text)
    if isinstance(found, Error):
        return
    assert type(value_of(found, key)) is type(value_of(get_cfg(), key))
