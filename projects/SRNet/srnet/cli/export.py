r"""Export a model to a file that runs without this project: ONNX, TorchScript or torch.export.

The file is read back and compared with the model on images; it is kept only if both predict the
same. Pre-processing, class names and outputs are in a JSON beside it (docs/EXPORT.md).

Examples:
  srnet export --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --format onnx \
      MODEL.WEIGHTS model_final.pth
  srnet export --config-file my.yaml --format pt2 --size 512x1024 --input street.jpg \
      --output street.pt2 MODEL.WEIGHTS model_final.pth
"""

import argparse

from .arguments import add_config, add_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet export`."""
    add_config(parser)
    parser.add_argument(
        "--format",
        default="onnx",
        metavar="FORMAT",
        help="onnx, pt2 (torch.export) or torchscript (default: onnx)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the file (default: OUTPUT_DIR/model.SUFFIX)"
    )
    add_size(parser, help="the only size of images it takes; folds SR (default: any size)")
    parser.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="images to compare on (default: the first of DATASETS.TEST)",
    )


def run(args: argparse.Namespace) -> None:
    """Export, and print what was written and compared."""
    from srnet import get_cfg
    from srnet.export import export_model

    done = export_model(
        get_cfg(args.config_file, args.opts),
        kind=args.format,
        output=args.output,
        size=args.size,
        images=args.input,
    )
    print(f"{done.path} ({done.path.stat().st_size / 1e6:.1f} MB), {done.description}")
    print("\n".join(f"  {note}" for note in done.notes))
    sizes = ", ".join(f"{height} x {width}" for height, width in dict.fromkeys(done.sizes))
    print(f"  equal to the model on {len(done.sizes)} images ({sizes}):")
    for name, value, allowed in done.differences:
        print(f"    {name}: largest difference {value:.2g} ({allowed:.2g} allowed)")
