"""Run commands one after another in this process, and write down what each said.

Usage: python run_commands.py JOBS.json RESULTS.json. A job is [program, words, whether it runs].
What does not run is read by its own parser, and its config with its overrides.
"""

import io
import json
import runpy
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from srnet import get_cfg
from srnet.cli import main as command_line

torch.set_num_threads(1)


def read(words):
    """Let a command of `srnet` read its words, and the config that they name."""

    def check(self, argv=None):
        found = parse(self, argv)
        if getattr(found, "config_file", ""):
            get_cfg(found.config_file, found.opts)
        raise SystemExit(0)

    parse, command_line.Parser.read = command_line.Parser.read, check
    try:
        return command_line.main(words)
    finally:
        command_line.Parser.read = parse


def run(program, words):
    if program == "srnet":
        return command_line.main(words)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
    return 0


def status_of(function, *arguments):
    try:
        return function(*arguments)
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    jobs, target = map(Path, sys.argv[1:])
    results = []
    for program, words, runs in json.loads(jobs.read_text()):
        with redirect_stderr(io.StringIO()) as said, redirect_stdout(said):
            status = status_of(*((run, program, words) if runs else (read, words)))
        results.append([status, said.getvalue()[-2000:]])
    target.write_text(json.dumps(results))
