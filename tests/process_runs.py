"""Trainings of every family on one process or several, with their losses."""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path

import torch
from detectron2.engine import HookBase, launch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from srnet import get_cfg
from srnet.engine import Trainer, close_process_groups
from srnet.engine import launch as launch_here


class DoubleTrainer(Trainer):
    """In single precision two runs part after a few steps whose sums are ordered otherwise.

    A detector even after one: a proposal more or less is a step, and no rounding.
    """

    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg).double()
        if hasattr(model, "proposal_generator"):
            predict = model.proposal_generator.predict_proposals

            def predict_from_single(anchors, scores, *more):  # Detectron2's NMS takes no other
                return predict(anchors, [x.float() for x in scores], *more)

            model.proposal_generator.predict_proposals = predict_from_single
        return model


class Losses(HookBase):
    """Every logged loss of each iteration, the mean over the processes."""

    def __init__(self):
        self.values = []

    def after_step(self):
        if comm.is_main_process():
            histories = self.trainer.storage.histories()
            self.values.append({n: h.latest() for n, h in histories.items() if "loss" in n})


@close_process_groups
def run(output: str, runs: dict[str, tuple[str, list[str]]]) -> None:
    """Train each family and write OUTPUT/NAME.json: losses, statistics of batch norms, averages."""
    torch.set_num_threads(1)
    for name, (config, opts) in runs.items():
        cfg = get_cfg(config, [*opts, "OUTPUT_DIR", str(Path(output, name))])
        seed_all_rng(cfg.SEED + comm.get_rank())
        # Detectron2's DDP starts with the weights of the first process.
        trainer, losses = DoubleTrainer(cfg), Losses()
        kept = ("LRScheduler", "WeightAverage")
        trainer._hooks = [h for h in trainer._hooks if type(h).__name__ in kept]
        trainer.register_hooks([losses])
        trainer.train()
        if comm.is_main_process():
            model = trainer.checkpointer.model
            statistics = {n: b.mean().item() for n, b in model.named_buffers() if "_mean" in n}
            average = {}
            if trainer.average is not None:
                parameters = trainer.average.model.named_parameters()
                average = {n: p.double().norm().item() for n, p in parameters}
            result = {"losses": losses.values, "statistics": statistics, "average": average}
            Path(output, f"{name}.json").write_text(json.dumps(result))


def run_started(args: Namespace) -> None:
    """The same in a process that torchrun or srun has started."""
    run(args.output, args.runs)


if __name__ == "__main__":
    arguments = (sys.argv[2], json.loads(sys.argv[3]))
    if "RANK" in os.environ or "SLURM_STEP_ID" in os.environ:
        options = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
        launch_here(run_started, Namespace(**options, output=arguments[0], runs=arguments[1]))
        sys.exit()
    launch(run, int(sys.argv[1]), dist_url="auto", args=arguments)
