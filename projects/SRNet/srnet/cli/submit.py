#!/usr/bin/env python3
"""Predict Cityscapes' test images and zip them for the test server.

    tools/submit_cityscapes.py --config-file CONFIG [--num-gpus N] [--output ZIP] \
        MODEL.WEIGHTS model_final.pth
    tools/submit_cityscapes.py --predictions DIR --output ZIP

The predictions are images of label ids, one for each of the 1,525 images, left in
OUTPUT_DIR/submission. Before they are zipped, names, number, sizes and labels are checked. With
--predictions a folder of them is checked and zipped.
"""

import argparse
import os
import shutil
import sys
from functools import partial

from detectron2.data import DatasetCatalog
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from srnet.checkpoint import load_for_evaluation
from srnet.data.datasets.cityscapes import IMAGES
from srnet.engine import (
    Trainer,
    close_process_groups,
    share_cpu_threads,
)
from srnet.evaluation.cityscapes_labels import LabelIdWriter, check_predictions, write_archive
from srnet.model_zoo import get_cfg
from srnet.modeling import build_model

DATASET = "cityscapes_fine_sem_seg_test"


@close_process_groups
def predict(args: argparse.Namespace) -> None:
    """Run one process of the prediction; the first checks and zips."""
    cfg = get_cfg(args.config_file, [*args.opts, "DATASETS.TEST", f"('{args.dataset}',)"])
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="srnet")
    if cfg.MODEL.DEVICE == "cpu":
        share_cpu_threads()
    folder = os.path.join(cfg.OUTPUT_DIR, "submission")
    if comm.is_main_process():
        # What an earlier run left may be another model's.
        shutil.rmtree(folder, ignore_errors=True)
    comm.synchronize()
    model = build_model(cfg)
    load_for_evaluation(cfg, model)
    loader = Trainer.build_test_loader(cfg, args.dataset)
    inference_on_dataset(model, loader, LabelIdWriter(folder))
    comm.synchronize()
    if comm.is_main_process():
        archive(args, folder, args.output or os.path.join(cfg.OUTPUT_DIR, "submission.zip"))


def archive(args: argparse.Namespace, folder: str, output: str) -> None:
    """Check the predictions in a folder and zip them."""
    images = [record["file_name"] for record in DatasetCatalog.get(args.dataset)]
    paths = check_predictions(folder, images)
    write_archive(paths, output)
    size = os.path.getsize(output) / 2**20
    print(f"{output}: {len(paths)} predictions, {size:.1f} MiB")
    split = args.dataset.rpartition("_")[2]
    if len(paths) != IMAGES.get(split, len(paths)):
        print(f"The complete split has {IMAGES[split]} images: the test server refuses a part.")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument("--dataset", default=DATASET, help="default: %(default)s")
    parser.add_argument("--output", metavar="ZIP", help="default: OUTPUT_DIR/submission.zip")
    parser.add_argument("--predictions", metavar="DIR", help="check and zip these alone")
    args = parser.parse_args()
    if bool(args.predictions) == bool(args.config_file):
        parser.error("give either --config-file or --predictions")
    if args.predictions and not args.output:
        parser.error("--predictions needs --output")
    return args


def main() -> None:
    """Predict or only zip; what is wrong with the data ends it with one line."""
    args = parse()
    if args.predictions:
        run = partial(archive, args, args.predictions, args.output)
    else:
        run = partial(
            launch,
            predict,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    try:
        run()
    except (OSError, ValueError) as error:
        sys.exit(f"submit_cityscapes.py: {error}")


if __name__ == "__main__":
    main()
