"""The command as its users meet it: its help, its grammar, and what it says to bad input."""

import re
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from srnet import get_cfg
from srnet.cli import arguments, errors, main
from srnet.model_zoo.names import config_names
from srnet.sizes import parse_size

CONFIG = "CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
LEAVES = [
    *([name] for name in main.COMMANDS if name not in main.GROUPS),
    ["data", "check"],
    ["data", "browse"],
    *(["benchmark", name] for name in ("latency", "modules", "sliding", "loading", "annotations")),
    *(["convert", name] for name in ("backbone", "dfnet", "wider-resnet", "resnet")),
    *(["figures", name] for name in ("channels", "sweep", "speed", "saliency", "pca")),
    ["submit", "cityscapes"],
]


def python(code, *words, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, **options
    )


def test_help_imports_neither_torch_nor_subcommands(tmp_path):
    code = (
        "import sys; from srnet.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = set(sys.modules)\n"
        "assert not loaded & {'torch', 'detectron2', 'numpy', 'srnet.cli.train'}, loaded\n"
    )
    result = python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert all(f"\n  {name} " in result.stdout for name in main.COMMANDS)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_explains_itself(srnet, words):
    result = srnet(*words, "--help")
    assert result.status == 0
    assert result.out.startswith(f"usage: srnet {' '.join(words)} ")
    assert "Example" in result.out and "--traceback" in result.out
    assert set(re.findall(r"[\w-]+/\w+\.yaml", result.out)) <= set(config_names())


@pytest.mark.parametrize("group", main.GROUPS)
def test_every_group_lists_its_commands(srnet, group):
    result = srnet(group, "--help")
    assert result.status == 0 and f"usage: srnet {group} COMMAND" in result.out
    assert srnet(group).status == 2


def test_python_m_srnet_is_the_command(tmp_path):
    command = [sys.executable, "-m", "srnet", "evel"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "srnet: error: there is no command evel; did you mean eval?\n"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["benchmark", "latncy"], 2, "there is no command latncy; did you mean latency?"),
        (["qqq"], 2, "there is no command qqq; the commands are train, eval"),
        (["--num-gpus", "2"], 2, "the command comes before the option --num-gpus"),
        (["config", "--config-fil", "x"], 2, "no option --config-fil; did you mean --config-file"),
        (["eval"], 2, "required: --config-file"),
        (["eval", "--config-file", CONFIG, "SEED"], 2, "SEED has no partner"),
        (["eval", "--config-file", CONFIG, "--num-gpus", "0"], 2, "--num-gpus: '0' is no whole"),
        (["train", "--config-file", CONFIG, "--machine-rank", "2"], 1, "from 0 to 0"),
        (["config", "--config-file", "CamVid-SemanticSegmentation/dfnet_v1_SP"], 1, CONFIG),
        (["config", "MODEL.CONTEXT.NAM", "sr"], 1, "the nearest are MODEL.CONTEXT.NAME"),
        (["config", "MODLE.WEIGHTS", "x"], 1, "the nearest are MODEL.WEIGHTS"),
        (["config", "MODEL.META_ARCHITECTURE", "(1, 2)"], 1, "MODEL.META_ARCHITECTURE"),
        (["analyze", "--config-file", CONFIG, "--size", "800"], 2, "'800' is not HxW"),
        (["analyze", "--config-file", CONFIG, "--compare", "nothing"], 1, "nothing"),
    ],
)
def test_bad_input_is_one_line(srnet, words, status, message):
    result = srnet(*words)
    assert result.status == status and message in result.err
    assert "Traceback" not in result.err and not result.out
    lines = [line for line in result.err.splitlines() if "no GPU is available" not in line]
    assert len(lines) == 1 + lines[-1].startswith("See 'srnet ")


def test_wrong_values_have_a_line_each(srnet):
    result = srnet("config", "SOLVER.MAX_ITER", "0", "INPUT.RANDOM_FLIP", "nope")
    lines = [line for line in result.err.splitlines() if "no GPU is available" not in line]
    assert result.status == 1 and len(lines) == 3
    assert lines[0] == "srnet: error: 2 values of the config are wrong:"
    assert lines[1] == "INPUT.RANDOM_FLIP='nope' must be one of none, horizontal, vertical"
    assert lines[2] == "SOLVER.MAX_ITER=0 must be 1 or more"


def test_an_unknown_key_in_a_file(srnet, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("MODEL:\n  CONTEXT:\n    REDUCTOIN: 4\n")
    result = srnet("config", "--config-file", path)
    assert result.status == 1 and "nearest are MODEL.CONTEXT.REDUCTION" in result.err
    path.write_text("MODEL: [\n")
    result = srnet("config", "--config-file", path)
    assert result.status == 1 and "mine.yaml, line 2" in result.err


@pytest.mark.parametrize(
    "words", [["--traceback", "config", "NO", "1"], ["config", "NO", "1", "--traceback"]]
)
def test_the_traceback_is_one_option_away(srnet, words):
    with pytest.raises(KeyError, match="there is no key NO"):
        srnet(*words)


def test_a_bug_is_not_hidden():
    def bug():
        raise TypeError("unsupported operand")

    with pytest.raises(TypeError):
        errors.report("srnet", bug)


def raised(error):
    def run():
        raise error

    return run


def test_an_interruption_is_quiet(capsys):
    assert errors.report("srnet", raised(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_ends_the_command_quietly():
    code = "import time\nfrom srnet.cli import errors\nimport sys\n"
    code += "def run():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    code += "sys.exit(errors.report('srnet', run))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_leaves_is_no_error():
    """As in `srnet --help | head -1`."""
    command = [sys.executable, "-m", "srnet", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) == 130 and err == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FileNotFoundError: a.png is missing", "a.png is missing"),
        ("ValueError: first line\nsecond line", "first line second line"),
        ("KeyError: 'the options: there is no key NO'", "the options: there is no key NO"),
        ("srnet.data.read.UnreadableImageError: a.png is cut off", "a.png is cut off"),
    ],
)
def test_the_error_of_a_child_process(capsys, text, message):
    trace = "\n\n-- Process 1 terminated with the following error:\n"
    trace += "Traceback (most recent call last):\n  File 'x', line 1, in run\n    raise it\n"
    error = type("ProcessRaisedException", (Exception,), {})(trace + text + "\n")
    assert errors.report("srnet", raised(error)) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("srnet: error: ") and message in err[-1]


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        raise FileNotFoundError("the image a.png is missing")


def test_the_error_of_a_worker(capsys):
    """Of a real one: PyTorch puts the worker's traceback into the message."""
    loader = torch.utils.data.DataLoader(Broken(), num_workers=1)
    assert errors.report("srnet", lambda: next(iter(loader))) == 1
    assert capsys.readouterr().err == "srnet: error: the image a.png is missing\n"


def test_the_bug_of_a_child_process_is_not_hidden():
    trace = "Traceback (most recent call last):\n  File 'x', line 1\nTypeError: no\n"
    error = type("ProcessRaisedException", (Exception,), {})(trace)
    with pytest.raises(Exception, match="TypeError: no"):
        errors.report("srnet", raised(error))


def parse(*words):
    parser = arguments.Parser("srnet test", "")
    arguments.add_config(parser)
    arguments.add_processes(parser)
    parser.add_argument("--input", nargs="+")
    arguments.add_size(parser, "--window", help="", several=True, default="3x4 5x6")
    return parser.read([str(word) for word in words])


@pytest.mark.parametrize(
    "words",
    [
        "--config-file c.yaml --num-gpus 2 MODEL.WEIGHTS w.pth SOLVER.BASE_LR 0.01",
        "--config-file c.yaml MODEL.WEIGHTS w.pth --num-gpus 2 SOLVER.BASE_LR 0.01",
        "MODEL.WEIGHTS w.pth SOLVER.BASE_LR 0.01 --num-gpus=2 --config-file c.yaml",
    ],
)
def test_options_may_follow_keys_and_values(words):
    found = parse(*words.split())
    assert (found.config_file, found.num_gpus) == ("c.yaml", 2)
    assert found.opts == ["MODEL.WEIGHTS", "w.pth", "SOLVER.BASE_LR", "0.01"]


def test_keys_after_an_option_with_several_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "IMG.JPG").touch()
    words = "--config-file c.yaml SEED -1 --input a.jpg IMG.JPG OUTPUT_DIR out --num-gpus 2"
    found = parse(*words.split())
    assert found.input == ["a.jpg", "IMG.JPG"] and found.num_gpus == 2
    assert dict(zip(found.opts[::2], found.opts[1::2], strict=True)) == {
        "SEED": "-1",
        "OUTPUT_DIR": "out",
    }


def test_sizes_are_height_then_width():
    assert parse_size("1024x2048") == (1024, 2048)
    assert parse("--config-file", "c").window == [(3, 4), (5, 6)]
    found = parse("SEED", 1, "--config-file", "c", "--window", "7x8", "9x8")
    assert found.window == [(7, 8), (9, 8)]


@pytest.mark.parametrize("text", ["8", "8by8", "0x8", "8x0", "8x8x8", "-8x8", "8 x 8", "8X8", ""])
def test_what_is_no_size(text):
    with pytest.raises(arguments.argparse.ArgumentTypeError, match="is not HxW"):
        parse_size(text)


def test_the_zoo_is_listed(srnet):
    assert srnet("config", "--list").out.splitlines() == config_names()


def test_a_printed_config_is_the_config(srnet, tmp_path):
    printed = srnet("config", "--config-file", CONFIG, "SOLVER.BASE_LR", "0.25")
    assert printed.status == 0
    (tmp_path / "printed.yaml").write_text(printed.out)
    # Read as YAML: the dump names nodes that stand twice, which a file has not.
    again, same, other = (
        yaml.safe_load(get_cfg(*arguments).dump())
        for arguments in (
            [tmp_path / "printed.yaml"],
            [CONFIG, ["SOLVER.BASE_LR", 0.25]],
            [CONFIG],
        )
    )
    assert again == same != other


def test_a_dataset_is_prepared_by_its_module(srnet, monkeypatch, tmp_path):
    """`srnet prepare camvid-coco` hands its arguments to srnet.data.prepare.camvid_coco."""
    module = __import__("srnet.data.prepare.camvid_coco", fromlist=["prepare"])
    seen = []
    monkeypatch.setattr(
        module, "add_arguments", lambda p: p.add_argument("--output"), raising=False
    )
    monkeypatch.setattr(module, "prepare", seen.append)
    assert srnet("prepare", "camvid-coco", "--output", tmp_path).status == 0
    assert seen[0].output == str(tmp_path)
    result = srnet("prepare", "cityscape")
    assert result.status == 2 and "did you mean cityscapes" in result.err


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--num-gpus", "0", "at least 1; to run on the CPU, leave it out and set MODEL.DEVICE cpu"),
        ("--num-gpus", "-2", "at least 1; to run on the CPU"),
        ("--timeout", "0", "'0' is no number above 0"),
        ("--timeout", "nan", "'nan' is no number above 0"),
        ("--timeout", "soon", "'soon' is no number above 0"),
        ("--machine-rank", "-1", "at least 0"),
    ],
)
@pytest.mark.parametrize("command", ["train", "eval"])
def test_numbers_of_processes_out_of_range(srnet, command, option, value, message):
    result = srnet(command, "--config-file", "c.yaml", f"{option}={value}")
    assert result.status == 2
    assert f"argument {option}: " in result.err and message in result.err
