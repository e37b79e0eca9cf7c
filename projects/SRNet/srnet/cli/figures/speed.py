r"""Draw Fig. 5(b): the speed of models against their mIoU. Fig. 5(a) is 'srnet benchmark modules'.

A MODEL is the OUTPUT_DIR of an evaluated run, or a name of the zoo with published results. All are
timed here in turns, whole images in fp32 with random weights, as 'srnet benchmark latency' does.
--table adds lines of a CSV: name, miou, and fps as measured elsewhere or the config to time here.
Writes speed.png and speed.csv.

Examples:
  srnet figures speed CamVid-SemanticSegmentation/lite0 CamVid-SemanticSegmentation/lite0_SR \
      --size 360x480 --output out
  srnet figures speed output/dfnet_v2 output/dfnet_v2_SR --table paper.csv --output out
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from srnet.cli.arguments import add_device, add_repeats, add_size, choose_device

if TYPE_CHECKING:
    from srnet.visualization.speed_plot import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `srnet figures speed`."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="the OUTPUT_DIR of a run, or a name of the zoo"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="a CSV with more models")
    parser.add_argument(
        "--dataset",
        default="",
        metavar="NAME",
        help="the dataset of the mIoU (default: the first in DATASETS.TEST of the model's config)",
    )
    add_size(parser, default="1024x2048", help="size of the image")
    add_repeats(parser, warmup=3, repeats=20)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/figures"),
        metavar="DIR",
        help="folder for the picture and the numbers (default: output/figures)",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Time, draw, and print where the files are.

    Raises:
        ValueError: no model is given.
    """
    from statistics import median

    from srnet import get_cfg
    from srnet.analysis.latency import describe, time_models
    from srnet.visualization.numbers import save_figure
    from srnet.visualization.speed_plot import draw_speed, models_table, read_models

    models = [find_model(name, args.dataset) for name in args.models]
    models += read_models(args.table) if args.table else []
    if not models:
        raise ValueError("no model is given: name runs or models of the zoo, or give --table FILE")
    measured = [model.fps != model.fps for model in models]
    device = choose_device(args)
    how = {"size": args.size, "device": device, "repeats": args.repeats}
    cfgs = {
        str(number): get_cfg(model.config, ["MODEL.WEIGHTS", ""])
        for number, (model, here) in enumerate(zip(models, measured, strict=True))
        if here
    }
    times = time_models(cfgs, warmup=args.warmup, **how)
    for number, seconds in times.items():
        models[int(number)].fps = 1 / median(seconds)
    conditions = describe(**how).strip() if cfgs else ""
    figure = draw_speed(models, measured, conditions)
    save_figure(args.output, "speed", figure, *models_table(models, measured))
    for model in models:
        print(f"{model.name}: {model.miou:.2f} % mIoU, {model.fps:.2f} images/s")
    print("\n".join([*[conditions] * bool(conditions), f"{args.output / 'speed.png'} and .csv"]))


def find_model(name: str, dataset: str) -> "Model":
    """A run or a published model with its mIoU.

    Raises:
        FileNotFoundError: there is neither a folder nor a published model of that name, or the
            folder has no config.yaml or no evaluation.
        ValueError: there is no result of the dataset.
    """
    from srnet import get_cfg
    from srnet.evaluation.compare import read
    from srnet.model_zoo.published import read_table
    from srnet.visualization.speed_plot import Model

    folder = Path(name)
    if folder.is_dir():
        config = folder / "config.yaml"
        if not config.is_file():
            raise FileNotFoundError(f"{config} is missing: give the OUTPUT_DIR of a run")
        dataset = dataset or next(iter(get_cfg(str(config)).DATASETS.TEST), "")
        return Model(
            folder.resolve().name, float(read(folder, dataset)["mean"]), config=str(config)
        )
    table = read_table()
    name = name.removesuffix(".yaml")
    if name not in table:
        raise FileNotFoundError(
            f"{name} is no folder of a run, and the zoo has published {', '.join(table)}"
        )
    results = table[name].results
    dataset = dataset or get_cfg(f"{name}.yaml").DATASETS.TEST[0]
    if dataset not in results:
        raise ValueError(f"--dataset {dataset}: {name} has results of {', '.join(results)}")
    return Model(name.rpartition("/")[2], results[dataset], config=f"{name}.yaml")
