"""Processes of a training or an evaluation: checked, started, set up, and what they run."""

import argparse
import os
from collections.abc import Callable

import detectron2.engine
import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from srnet.checkpoint import load_for_evaluation
from srnet.evaluation.results import by_dataset, write_results
from srnet.modeling import build_model

from .processes import close_process_groups, share_cpu_threads
from .signals import stop_signals_passed_on
from .trainer import Trainer


def launch(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Run a function in as many processes as the command line asks for.

    Several processes start anew and import `main`, so it has to be a function of a module.

    Args:
        main: what each process runs.
        args: its argument, with `num_gpus`, `num_machines`, `machine_rank` and `dist_url`.

    Raises:
        ValueError: one of these contradicts the machine or the others.
        SystemExit: a signal stopped the training in all processes; 128 plus its number.
    """
    check_processes(args)
    with stop_signals_passed_on(args.num_gpus * args.num_machines):
        detectron2.engine.launch(
            run_process,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )


@close_process_groups
def run_process(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> object:
    """Run one of the processes."""
    return main(args)


def check_processes(args: argparse.Namespace) -> None:
    """Check the numbers of processes and machines.

    Raises:
        ValueError: one is out of range; the message names the option and what is allowed.
    """
    gpus = torch.cuda.device_count()
    if args.num_gpus < 1:
        raise ValueError(f"--num-gpus {args.num_gpus}: must be at least 1; a CPU counts as one")
    if gpus and args.num_gpus > gpus:
        raise ValueError(f"--num-gpus {args.num_gpus}: this machine has {gpus}")
    if args.num_machines < 1:
        raise ValueError(f"--num-machines {args.num_machines}: must be at least 1")
    if not 0 <= args.machine_rank < args.num_machines:
        raise ValueError(
            f"--machine-rank {args.machine_rank}: must be from 0 to {args.num_machines - 1}, "
            f"as --num-machines is {args.num_machines}"
        )
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError(
            f"--num-machines {args.num_machines} needs --dist-url tcp://HOST:PORT, "
            "the same on all machines"
        )


def set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare a process: output folder, loggers, random numbers, CPU threads.

    Args:
        cfg: the config of the run.
        args: the command line, which is logged.
    """
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="srnet")
    if cfg.MODEL.DEVICE == "cpu":
        share_cpu_threads()


def train(cfg: CfgNode, *, resume: bool = False) -> None:
    """Train the model of a config.

    Args:
        cfg: a frozen config.
        resume: whether to continue from the newest checkpoint in `OUTPUT_DIR`.
    """
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def evaluate(cfg: CfgNode, *, resume: bool = False) -> dict:
    """Evaluate the model of a config on `DATASETS.TEST`.

    Args:
        cfg: a frozen config.
        resume: whether to take the newest checkpoint in `OUTPUT_DIR`, not `MODEL.WEIGHTS`.

    Returns:
        The results of the main process, as Detectron2's evaluators return them. They are also in
        `OUTPUT_DIR/inference/results.json`.

    Raises:
        ValueError: `DATASETS.TEST` is empty.
        RuntimeError: the weights are missing, or not those of the model.
    """
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name at least one dataset to evaluate on")
    model = build_model(cfg)
    load_for_evaluation(cfg, model, resume=resume)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        write_results(folder, by_dataset(results, cfg.DATASETS.TEST))
        verify_results(cfg, results)
    return results
