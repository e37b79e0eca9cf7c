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
