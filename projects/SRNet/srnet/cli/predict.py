r"""Predict pictures, videos or a camera, and write the results.

Inputs are files, folders, patterns, videos, or the number of a camera. An input that cannot be read
is reported and skipped; the exit status is then 1. What is written, by --save:

  pictures   drawn predictions: pictures/NAME.jpg, of videos pictures/NAME.mp4
  labels     semantic models: labels/NAME.png, the class of each pixel, and labels/classes.json
  coco       detectors: coco_results.json and coco_images.json, in COCO's format
  panoptic   panoptic models: panoptic/NAME.png and panoptic.json, in COCO's format
  csv        classifiers: top5.csv

Examples:
  srnet predict --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --weights my.pth \
      --input street.jpg --output out
  srnet predict --config-file my.yaml --weights my.pth --input pictures clip.mp4 --recursive \
      --output out --save pictures labels
"""

import argparse
import time

from .arguments import add_config, add_count, add_device, at_least, choose_device, share

FORMS = ("pictures", "labels", "coco", "panoptic", "csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet predict`."""
    add_config(parser, required=False)
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="the checkpoint, as MODEL.WEIGHTS FILE"
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="INPUT",
        help="images, folders, patterns, videos, or the number of a camera",
    )
    parser.add_argument(
        "--recursive", action="store_true", help="take images in the subfolders of folders, too"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--save",
        nargs="+",
        default=["pictures"],
        metavar="FORM",
        help=f"one or more of {', '.join(FORMS)} (default: pictures)",
    )
    parser.add_argument(
        "--confidence",
        type=share,
        default=0.5,
        metavar="SCORE",
        help="instances with a lower score are left out, in all forms (default: 0.5)",
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        metavar="N",
        help="images of one size that are predicted at once (default: 8 on a GPU, 1 on a CPU)",
    )
    add_count(parser, "--num-workers", 2, "threads that read, and as many that draw and write")
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Predict, and print what was done.

    Raises:
        ValueError: inputs could not be read; all others are predicted and written.
    """
    import sys

    from tqdm import tqdm

    from srnet.prediction import Predictor, predict
    from srnet.prediction.inputs import list_inputs
    from srnet.prediction.predictor import read_config, set_confidence

    save = [form for word in args.save for form in word.split(",") if form]
    unknown = [form for form in save if form not in FORMS]
    if unknown or not save:
        raise ValueError(f"--save {','.join(unknown)}: the forms are {', '.join(FORMS)}")
    list_inputs(args.input, recursive=args.recursive, exclude=args.output)  # errors before the rest
    device = choose_device(args)
    cfg = read_config(args.config_file, weights=args.weights, opts=args.opts, device=device)
    predictor = Predictor(set_confidence(cfg, args.confidence))
    start = time.perf_counter()
    summary = predict(
        predictor,
        args.input,
        args.output,
        save=save,
        recursive=args.recursive,
        batch_size=args.batch_size or (8 if device.startswith("cuda") else 1),
        workers=args.num_workers,
        progress=True,
        report=lambda text: tqdm.write(text, file=sys.stderr),
    )
    rate = summary.done / (time.perf_counter() - start)
    print(f"{summary.done} images in {args.output} ({rate:.1f} images/s)")
    if summary.failed:
        raise ValueError(
            f"{summary.failed} of {summary.done + summary.failed} inputs could not be read: the "
            "messages above name them"
        )
