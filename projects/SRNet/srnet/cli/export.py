r"""Export a model to a file that runs without this project: ONNX, TorchScript or torch.export.

The file is read back and compared with the model on images; it is kept only if both predict the
same. Pre-processing, class names and outputs are in a JSON beside it (docs/EXPORT.md).

`--format safetensors` writes the trained weights for others instead: fp16, no code, with the name
of the config and the classes. It prints the line for the table of published weights in
srnet/model_zoo/trained. The place there may also be a URL, or package://MODULE/PATH.

Examples:
  srnet export --config-file CamVid-SemanticSegmentation/dfnet_v1_SR.yaml --format onnx \
      MODEL.WEIGHTS model_final.pth
  srnet export --config-file my.yaml --format pt2 --size 512x1024 --input street.jpg \
      --output street.pt2 MODEL.WEIGHTS model_final.pth
  srnet export --config-file CamVid-SemanticSegmentation/lite0_SR.yaml --format safetensors \
      --output camvid_lite0_SR.safetensors MODEL.WEIGHTS model_final.pth
"""

import argparse
from pathlib import Path

from .arguments import add_config, add_size

WEIGHTS_ALONE = "safetensors"  # the format without a graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet export`."""
    add_config(parser)
    parser.add_argument(
        "--format",
        default="onnx",
        metavar="FORMAT",
        help="onnx, pt2 (torch.export), torchscript or safetensors (default: onnx)",
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
    if args.format == WEIGHTS_ALONE:
        write_weights(args)
    else:
        write_graph(args)


def write_weights(args: argparse.Namespace) -> None:
    """Write the weights, and print their line for the table of published weights."""
    from srnet import get_cfg
    from srnet.model_zoo.names import find_config, zoo_name
    from srnet.model_zoo.publish import publish

    for option in ("size", "input"):
        if getattr(args, option):
            raise ValueError(f"--{option} is for a graph: --format {args.format} has weights alone")
    cfg = get_cfg(args.config_file, args.opts)
    target = Path(args.output or Path(cfg.OUTPUT_DIR, f"model.{args.format}"))
    name = zoo_name(find_config(args.config_file))
    sha256 = publish(cfg, target, name=name)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    print(f"{name.removesuffix('.yaml')}: {{place: {target.name}, sha256: {sha256}}}")


def write_graph(args: argparse.Namespace) -> None:
    """Write the graph, and print what was compared."""
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
