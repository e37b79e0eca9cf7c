"""Trainings that are killed at random moments and resumed, and what is left of them.

One process imports PyTorch and Detectron2 once and forks each training, so a start takes a second.
A training says through a pipe what it begins: an iteration, a checkpoint, an evaluation. The kill
comes a moment after one of these, or while the model is being built.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng
from srnet import get_cfg
from srnet.engine import Trainer
from srnet.engine.metrics import TIMES

MOMENTS = {"start": b"", "first iteration": b"i", "iteration": b"i", "checkpoint": b"c"}
MOMENTS |= {"evaluation": b"e"}
# How long after the moment, at most, in seconds: about as long as what begins there.
LATER = {"start": 1.0, "checkpoint": 0.15}


class Told(Trainer):
    """A trainer that says what it begins."""

    pipe = -1

    @classmethod
    def test(cls, *args, **kwargs):
        os.write(cls.pipe, b"e")
        return super().test(*args, **kwargs)


class Losses(HookBase):
    """Tell of each iteration, and append its losses to a file: one write a line."""

    def __init__(self, folder, pipe):
        self.file = os.open(folder / "losses.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self.pipe = pipe

    def before_step(self):
        os.write(self.pipe, b"i")

    def after_step(self):
        histories = self.trainer.storage.histories()
        losses = {name: h.latest() for name, h in histories.items() if "loss" in name}
        line = json.dumps({"iteration": self.trainer.iter, "losses": losses})
        os.write(self.file, f"{line}\n".encode())


def train(config, opts, folder, pipe):
    """Train, from the last checkpoint on, as train_net.py does."""
    cfg = get_cfg(config, [*opts, "OUTPUT_DIR", str(folder)])
    seed_all_rng(cfg.SEED)  # as Detectron2's default_setup
    Told.pipe = pipe
    trainer = Told(cfg)
    save = trainer.checkpointer.save

    def tell_and_save(*args, **kwargs):
        os.write(pipe, b"c")
        save(*args, **kwargs)

    trainer.checkpointer.save = tell_and_save
    # Before the hook that saves: what is in a checkpoint is in the file of the losses, too.
    trainer._hooks.insert(0, Losses(folder, pipe))
    trainer._hooks[0].trainer = trainer
    trainer.resume_or_load(resume=True)
    trainer.train()


def fork(config, opts, folder):
    """Start a training; return its process and the end of the pipe that it writes to."""
    folder.mkdir(exist_ok=True)
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    status = 1
    try:
        train(config, opts, folder, writing)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def kill_at(process, pipe, moment, draw):
    """Kill the training a random time after a moment, unless it ended before."""
    wanted = MOMENTS[moment]
    count = 1 if moment in ("first iteration", "checkpoint", "evaluation") else draw.randint(1, 4)
    later = draw.uniform(0, LATER.get(moment, 0.05))
    while wanted and count:
        if not select.select([pipe], [], [], 300)[0]:
            raise TimeoutError(f"no {moment} in 5 minutes")
        said = os.read(pipe, 1)
        if not said:
            return
        count -= said == wanted
    time.sleep(later)
    os.kill(process, signal.SIGKILL)


def end(process, pipe):
    """Wait for a training; return its status, negative for a signal."""
    while os.read(pipe, 4096):
        pass
    os.close(pipe)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def finish(config, opts, folder):
    status = end(*fork(config, opts, folder))
    if status:
        raise RuntimeError(f"training ended with {status}: {(folder / 'log').read_text()[-3000:]}")


def difference(one, two, where="checkpoint"):
    """Where two contents of a checkpoint differ in a bit; "" for nowhere."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return "" if torch.equal(one, two) else where
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        pairs = ((one[key], two[key], f"{where}.{key}") for key in one)
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        pairs = ((a, b, f"{where}.{i}") for i, (a, b) in enumerate(zip(one, two, strict=True)))
    else:
        return "" if type(one) is type(two) and one == two else where
    return next((found for pair in pairs if (found := difference(*pair))), "")


def logged(folder):
    """The values of metrics.json, as text (NaN is not NaN), by iteration and name."""
    records = [json.loads(line) for line in (folder / "metrics.json").open()]
    return {
        (record["iteration"], name): str(value)
        for record in records
        for name, value in record.items()
        if name not in TIMES
    }


def compare(whole, killed):
    """What of a training that was killed differs from the one that was not: messages."""
    problems, curve = [], {}
    for line in (whole / "losses.jsonl").read_text().splitlines():
        record = json.loads(line)
        curve[record["iteration"]] = record["losses"]
    seen = set()
    for line in (killed / "losses.jsonl").read_text().splitlines():
        record = json.loads(line)
        seen.add(record["iteration"])
        if record["losses"] != curve[record["iteration"]]:
            problems.append(f"losses of iteration {record['iteration']}")
    if seen != curve.keys():
        problems.append(f"iterations {sorted(curve.keys() - seen)} are missing")
    for name in ("model_final.pth", "ema/model_final.pth"):
        states = [torch.load(f / name, weights_only=True) for f in (whole, killed)]
        if found := difference(*states):
            problems.append(f"{name}: {found}")
    expected, found = logged(whole), logged(killed)
    # A kill takes lines that were not written yet, and an evaluation after its checkpoint.
    if not found.items() <= expected.items():
        problems.append(f"metrics.json: {sorted(found.items() - expected.items())[:3]}")
    last = max(iteration for iteration, _ in expected)
    missing = {key for key in expected.keys() - found.keys() if key[0] == last}
    if missing:
        problems.append(f"metrics.json has no {sorted(missing)[:3]}")
    left = [p.name for p in killed.rglob("*partial*")] + [p.name for p in killed.glob("*.lock*")]
    if left:
        problems.append(f"left behind: {left}")
    return problems


def kill_family(config, opts, folder, kills, seed):
    """Kill trainings `kills` times in all and resume each; a finished one is followed by another.

    Returns:
        How many kills there were at each moment, and what differs at the end.
    """
    draw, whole = random.Random(seed), folder / "whole"
    finish(config, opts, whole)
    counts, problems, trainings = dict.fromkeys(MOMENTS, 0), [], 1
    killed = folder / "killed0"
    for _ in range(10 * kills):
        if sum(counts.values()) == kills:
            break
        # Each moment in turn, in another order each time.
        moment = draw.choice([m for m in MOMENTS if counts[m] == min(counts.values())])
        process, pipe = fork(config, opts, killed)
        kill_at(process, pipe, moment, draw)
        status = end(process, pipe)
        if status == -signal.SIGKILL:
            counts[moment] += 1
        elif status:
            problems.append(f"ended with {status}: {(killed / 'log').read_text()[-2000:]}")
            break
        else:  # it was faster than the kill
            problems += compare(whole, killed)
            killed = folder / f"killed{trainings}"
            trainings += 1
    if not problems:
        finish(config, opts, killed)
        problems += compare(whole, killed)
    return {"kills": counts, "trainings": trainings, "problems": problems}


def main(output, runs, kills, seed):
    """Run :func:`kill_family` for each of `runs` and write OUTPUT/report.json."""
    torch.set_num_threads(1)
    report = {}
    for name, (config, opts) in runs.items():
        folder = Path(output, name)
        folder.mkdir()
        begun = time.monotonic()
        report[name] = kill_family(config, opts, folder, kills, seed)
        report[name]["seconds"] = round(time.monotonic() - begun, 1)
    Path(output, "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
