"""Trainings of a small classifier that take seconds, for tests of the engine."""

import shutil

import numpy as np
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from PIL import Image
from srnet import get_cfg
from srnet.engine import Trainer

CONFIG = "ImageNet-Classification/resnet_18_SR.yaml"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.CLASSIFIER.NUM_CLASSES": 3,
    "INPUT.CLASSIFICATION.SIZE": 32,
    "INPUT.CLASSIFICATION.RESIZE_TEST": 36,
    "INPUT.CLASSIFICATION.SIZE_TEST": 32,
    "INPUT.CLASSIFICATION.BATCH_TEST": 2,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.MAX_ITER": 4,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.EVAL_PERIOD": 0,
    "SEED": 1,
}


def make_sets(base):
    """Folders of three classes: 12 images to train on, 7 to evaluate and one that is cut short."""
    rng = np.random.default_rng(0)
    for split, counts in (("train", (4, 4, 4)), ("val", (3, 3, 2))):
        for name, count in zip("abc", counts, strict=True):
            folder = base / "tiny" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
                pixels[..., "abc".index(name)] //= 4
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    cut = base / "tiny" / "val" / "b" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:400])
    return base


def options(sets, folder, **more):
    chosen = {**SMALL, "OUTPUT_DIR": folder, **more}
    chosen["DATASETS.IMAGE_FOLDER_TRAIN"] = sets / "tiny" / "train"
    chosen["DATASETS.IMAGE_FOLDER_TEST"] = sets / "tiny" / "val"
    return [str(x) for item in chosen.items() for x in item]


class Recorder(HookBase):
    """Loss, learning rate and first weights of each iteration."""

    def __init__(self):
        self.losses, self.rates, self.weights = {}, {}, []

    def after_step(self):
        if comm.is_main_process():  # which has the mean over the processes
            loss = self.trainer.storage.history("total_loss").latest()
            self.losses[self.trainer.iter] = loss
        self.weights.append(first_weight(self.trainer.model).clone())

    def before_step(self):
        self.rates[self.trainer.iter] = self.trainer.optimizer.param_groups[0]["lr"]


def first_weight(model):
    return getattr(model, "module", model).backbone.stem.conv1.weight.detach()


def build(root, sets, folder, resume=False, config=CONFIG, evaluate=False, **more):
    """A trainer that has loaded what it begins with, and what records it."""
    folder.mkdir(exist_ok=True)
    chosen = options(sets, folder, **more)
    cfg = get_cfg(str(root / "configs" / config), chosen)
    if not evaluate:
        cfg.defrost()
        cfg.DATASETS.TEST = ()
        cfg.freeze()
    seed_all_rng(cfg.SEED if cfg.SEED >= 0 else None)
    trainer, recorder = Trainer(cfg), Recorder()
    trainer.register_hooks([recorder])
    trainer.resume_or_load(resume=resume)
    return trainer, recorder


def train(*args, **kwargs):
    trainer, recorder = build(*args, **kwargs)
    trainer.train()
    return trainer, recorder


def resumed_from(source, name, folder):
    """A folder with one checkpoint of another one, to resume from."""
    folder.mkdir()
    shutil.copy(source / name, folder / name)
    (folder / "last_checkpoint").write_text(name)
    return folder
