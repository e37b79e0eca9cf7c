"""Checkpoints, changed in every way: the weights that were saved are loaded, or nothing is.

`tests/checkpoint/test_files.py` has the files that are none; here whole ones are changed.
"""

import copy
import io
import pickle

import pytest
import torch
import torchvision
from bad_inputs import Error, attempt, file_changes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from srnet.checkpoint import Checkpointer
from srnet.checkpoint.backbone import convert_backbone
from srnet.checkpoint.convert import convert
from torch import nn

pytestmark = pytest.mark.fault("strangers: checkpoints")
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def network(seed):
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    nn.init.normal_(layers[1].weight)
    nn.init.normal_(layers[1].running_mean)
    return layers


SAVED = network(1).state_dict()


def changed_weight(change):
    """All weights, the first changed."""

    def make():
        weights = copy.deepcopy(SAVED)
        weights["0.weight"] = change(weights["0.weight"])
        return weights

    return make


def renamed(rename):
    return lambda: {rename(name): value for name, value in SAVED.items()}


def without(*names):
    return lambda: {name: value for name, value in SAVED.items() if name not in names}


# What is saved, and whether it is refused: by an evaluation, which is strict, and by a training.
BOTH, STRICT, NEITHER = (True, True), (True, False), (False, False)
CONTENTS = {
    "a weight less": (without("0.weight"), STRICT),
    "a bias less": (without("2.bias"), STRICT),
    "a statistic less": (without("1.running_mean"), STRICT),
    "no counter": (without("1.num_batches_tracked"), NEITHER),
    "one weight alone": (without(*list(SAVED)[1:]), STRICT),
    "nothing": (without(*SAVED), BOTH),
    "all names of another": (renamed("encoder.{}".format), BOTH),
    "names in capitals": (renamed(lambda name: name.upper().replace("0.", "9.")), BOTH),
    "numbers one higher": (renamed(lambda name: f"{int(name[0]) + 7}{name[1:]}"), BOTH),
    "the prefix of DDP": (renamed("module.{}".format), NEITHER),
    "the prefix of Lightning": (renamed("model.{}".format), NEITHER),
    "the prefix of torch.compile": (renamed("_orig_mod.{}".format), NEITHER),
    "two prefixes": (renamed("_orig_mod.module.{}".format), NEITHER),
    "a weight transposed": (changed_weight(lambda w: w.transpose(0, 1).contiguous()), STRICT),
    "a weight flat": (changed_weight(lambda w: w.flatten()), STRICT),
    "a weight without channels": (changed_weight(lambda w: w[:, :0]), STRICT),
    "a weight of fewer channels": (changed_weight(lambda w: w[:4]), STRICT),
    "a scalar weight": (changed_weight(lambda w: w.sum()), STRICT),
    "a weight with NaN": (changed_weight(lambda w: w * torch.nan), BOTH),
    "a weight with infinity": (changed_weight(lambda w: w / 0), BOTH),
    "a weight of whole numbers": (changed_weight(lambda w: (100 * w).to(torch.int8)), BOTH),
    "a complex weight": (changed_weight(lambda w: w.to(torch.complex64)), BOTH),
    "a quantized weight": (
        changed_weight(lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8)),
        BOTH,
    ),
    "a weight that is a number": (changed_weight(lambda w: 3.0), BOTH),
    "a weight that is a list": (changed_weight(lambda w: w.tolist()), BOTH),
    "a weight that is a text": (changed_weight(lambda w: "text"), BOTH),
    "a weight that is None": (changed_weight(lambda w: None), BOTH),
    "a weight that is an array": (changed_weight(lambda w: w.numpy()), BOTH),
    "double precision": (lambda: {k: v.double() for k, v in SAVED.items()}, NEITHER),
    "a view of more": (
        changed_weight(lambda w: torch.cat([w, w])[: len(w)]),
        NEITHER,
    ),
    "channels last": (
        changed_weight(lambda w: w.to(memory_format=torch.channels_last)),
        NEITHER,
    ),
    "parameters": (lambda: {k: nn.Parameter(v, False) for k, v in SAVED.items()}, NEITHER),
    "a key that is a number": (lambda: {**SAVED, 7: torch.ones(1)}, BOTH),
    "an optimizer alone": (lambda: {"optimizer": {"state": {}}, "epoch": 3}, BOTH),
    "a list of weights": (lambda: list(SAVED.values()), BOTH),
    "a tensor": (lambda: SAVED["0.weight"], BOTH),
    "a number": (lambda: 3, BOTH),
    "None": (lambda: None, BOTH),
}
WRAPPERS = {
    "bare": lambda weights: weights,
    "as model": lambda weights: {"model": weights},
    "as state_dict": lambda weights: {"state_dict": weights, "epoch": 3},
}


def load(path, strict):
    """The weights of a model after loading a file, or the error; then they are as before."""
    model = network(0)
    before = copy.deepcopy(model.state_dict())
    checkpointer = Checkpointer(model, strict=strict)
    found = attempt(lambda: checkpointer.load(str(path)), path.parent, str(path))
    if isinstance(found, Error):
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        return found
    return model.state_dict(), before


def is_saved(weights):
    return all(torch.equal(weights[name], value) for name, value in SAVED.items())


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", CONTENTS)
def test_contents(tmp_path, tried, name, wrapper):
    tried(f"checkpoint: {name}, {wrapper}")
    make, refused = CONTENTS[name]
    torch.save(WRAPPERS[wrapper](make()), tmp_path / "bad.pth")
    for strict, wanted in zip((True, None), refused, strict=True):
        found = load(tmp_path / "bad.pth", strict)
        assert isinstance(found, Error) == wanted, (strict, found)
        if wanted or name == "no counter":
            continue
        weights, before = found
        if strict:
            assert is_saved(weights)
        else:  # what does not fit keeps its start
            assert all(
                torch.equal(value, SAVED[k]) or torch.equal(value, before[k])
                for k, value in weights.items()
            )


def stored(form, content):
    file = io.BytesIO()
    if form == "pkl":
        arrays = {k: v.numpy() for k, v in content.items()}
        file.write(pickle.dumps({"model": arrays, "__author__": "zoo"}))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


SUFFIXES = {"zip": "pth", "old": "pth", "pkl": "pkl"}


@pytest.mark.parametrize("name", file_changes(b""))
@pytest.mark.parametrize("form", SUFFIXES)
def test_what_may_become_of_the_file(tmp_path, tried, form, name):
    tried(f"checkpoint: a {form} file is {name}")
    path = tmp_path / f"bad.{SUFFIXES[form]}"
    path.write_bytes(file_changes(stored(form, SAVED))[name])
    found = load(path, True)
    assert isinstance(found, Error) or (name == "twice" and is_saved(found[0]))


@settings(
    max_examples=80, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.integers(1, 3))
def test_flipped_bits_of_zip_files(tmp_path, tried, place, bit, count):
    """CRCs cover the content: the right weights or none."""
    tried("checkpoint: a bit is flipped")
    content = bytearray(stored("zip", SAVED))
    for i in range(count):
        content[int(place * len(content) + 97 * i) % len(content)] ^= 1 << bit
    (tmp_path / "bad.pth").write_bytes(content)
    found = load(tmp_path / "bad.pth", True)
    assert isinstance(found, Error) or is_saved(found[0])


@settings(
    max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=IGNORED
)
@given(st.sampled_from(sorted(SUFFIXES)), st.floats(0, 1, exclude_max=True))
def test_files_that_are_cut_off(tmp_path, tried, form, share):
    tried(f"checkpoint: a {form} file is cut off anywhere")
    content = stored(form, SAVED)
    path = tmp_path / f"bad.{SUFFIXES[form]}"
    path.write_bytes(content[: int(share * len(content))])
    assert isinstance(load(path, True), Error)


CONVERTERS = {
    "backbone": convert_backbone,
    "dfnet": lambda source, target: convert("dfnet", source, target),
    "resnet": lambda source, target: convert("resnet", source, target),
    "wider-resnet": lambda source, target: convert("wider-resnet", source, target),
}


@pytest.mark.parametrize("name", ["a foreign network", *file_changes(b"")])
@pytest.mark.parametrize("converter", CONVERTERS)
def test_converters_refuse_what_does_not_belong(tmp_path, tried, converter, name):
    tried(f"converter {converter}: {name}")
    source, target = tmp_path / "bad.pth", tmp_path / "target.pth"
    weights = {f"backbone.{k}": v for k, v in SAVED.items()}
    content = stored("zip", weights)
    source.write_bytes(file_changes(content).get(name, content))
    found = attempt(lambda: CONVERTERS[converter](source, target), tmp_path, str(source))
    assert isinstance(found, Error) and not target.exists()


@pytest.mark.parametrize("converter", ["backbone", "resnet"])
def test_converters_refuse_weights_that_diverged(tmp_path, tried, converter):
    tried(f"converter {converter}: NaN")
    weights = torchvision.models.resnet18(weights=None).state_dict()
    source, target = tmp_path / "bad.pth", tmp_path / "target.pth"
    torch.save(weights, source)
    CONVERTERS[converter](source, tmp_path / "right.pth")
    weights["layer1.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    torch.save(weights, source)
    found = attempt(lambda: CONVERTERS[converter](source, target), tmp_path, str(source))
    assert "res2.0.conv1.weight has values that are NaN" in found and not target.exists()
