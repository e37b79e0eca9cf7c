#!/usr/bin/env python3
"""Train or evaluate a model of this project.

    train_net.py --config-file configs/CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --num-gpus 8
    train_net.py --config-file CONFIG --eval-only MODEL.WEIGHTS model_final.pth

The options are Detectron2's; any config key and its value may follow. Without a GPU the model runs
on the CPU, and `--num-gpus 2` starts two processes there.
"""

import torch
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from srnet import build_model, get_cfg
from srnet.checkpoint import load_for_evaluation
from srnet.engine import (
    Trainer,
    close_process_groups,
    share_cpu_threads,
)


@close_process_groups
def main(args):
    """Run one process of a training or an evaluation."""
    cfg = get_cfg(args.config_file, args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="srnet")
    if cfg.MODEL.DEVICE == "cpu":
        share_cpu_threads()
    if args.eval_only:
        model = build_model(cfg)
        load_for_evaluation(cfg, model, resume=args.resume)
        results = Trainer.test(cfg, model)
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def parse_args():
    """Read the command line, and refuse more GPUs than there are."""
    parser = default_argument_parser(epilog=__doc__)
    args = parser.parse_args()
    gpus = torch.cuda.device_count()
    if gpus and args.num_gpus > gpus:
        parser.error(f"--num-gpus {args.num_gpus}: this machine has {gpus}")
    return args


if __name__ == "__main__":
    arguments = parse_args()
    launch(
        main,
        arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        args=(arguments,),
    )
