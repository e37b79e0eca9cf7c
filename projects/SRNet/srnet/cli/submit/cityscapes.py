r"""Predict Cityscapes' test images and zip the predictions for the test server.

The predictions are images of label ids, one for each of the 1,525 images. They are left in
OUTPUT_DIR/submission. Names, number, sizes and labels are checked before they are zipped. With
--predictions, an existing folder is checked and zipped.

Examples:
  srnet submit cityscapes --config-file Cityscapes-SemanticSegmentation/srnet_R_50.yaml \
      --num-gpus 8 MODEL.WEIGHTS model_final.pth
  srnet submit cityscapes --predictions output/submission --output submission.zip
"""

import argparse

from srnet.cli.arguments import add_config, add_processes

DATASET = "cityscapes_fine_sem_seg_test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet submit cityscapes`."""
    add_config(parser, required=False)
    parser.add_argument(
        "--dataset", default=DATASET, metavar="NAME", help="a registered one (default: %(default)s)"
    )
    parser.add_argument(
        "--output", metavar="ZIP", help="the archive (default: OUTPUT_DIR/submission.zip)"
    )
    parser.add_argument(
        "--predictions", metavar="DIR", help="check and zip the predictions in this folder"
    )
    add_processes(parser)


def run(args: argparse.Namespace) -> None:
    """Predict and zip, or only zip."""
    if bool(args.predictions) == bool(args.config_file):
        raise ValueError("give either --config-file or --predictions")
    if not args.predictions:
        from srnet.engine import launch

        launch(predict, args)
        return
    if not args.output:
        raise ValueError("--predictions needs --output, the archive to write")
    from srnet.engine.submission import archive

    archive(args.predictions, args.dataset, args.output)


def predict(args: argparse.Namespace) -> None:
    """Run one process of the prediction."""
    from srnet.cli.launch import start_process
    from srnet.engine.submission import predict_and_archive

    cfg = start_process(args, ["DATASETS.TEST", f"('{args.dataset}',)"])
    predict_and_archive(cfg, args.dataset, args.output)
