"""Detectron2's DefaultTrainer with this project's data, schedule, evaluators and checkpoints."""

import logging
import weakref

from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.hooks import EvalHook
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from srnet.checkpoint import Checkpointer
from srnet.data import (
    build_mapper,
    build_test_loader,
    build_train_loader,
    start_at_iteration,
)
from srnet.evaluation import build_evaluator

from .accumulation import AccumulatingTrainer, check_accumulation
from .averaging import WeightAverage, share_buffers
from .divergence import FiniteAMPTrainer, FiniteTrainer, advise_after_divergence
from .learning_rate import scale_learning_rate


class Trainer(DefaultTrainer):
    """Train a model as its config says.

    The constructor is DefaultTrainer's but for two things that cannot be passed to it (0.6): the
    checkpointer, and DDP of a model on the CPU, which refuses the device ids that
    `create_ddp_model` hands it.

    Args:
        cfg: a frozen config.
    """

    def __init__(self, cfg):
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(scale_learning_rate(cfg), comm.get_world_size())
        check_accumulation(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        on_cpu = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **on_cpu)
        amp, parts = cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.ACCUMULATE
        if parts > 1:
            self._trainer = AccumulatingTrainer(model, loader, optimizer, parts=parts, amp=amp)
        else:
            self._trainer = (FiniteAMPTrainer if amp else FiniteTrainer)(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.average = None
        if cfg.SOLVER.EMA.ENABLED:
            decay, period = cfg.SOLVER.EMA.DECAY, cfg.SOLVER.EMA.PERIOD
            self.average = WeightAverage(
                model, decay=decay, period=period, output_dir=cfg.OUTPUT_DIR
            )
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the newest whole checkpoint: optimizer, schedule, iteration and data."""
        loaded = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and "iteration" in loaded:
            self.start_iter = loaded["iteration"] + 1
            batch = self.cfg.SOLVER.IMS_PER_BATCH
            start_at_iteration(self.data_loader, self.start_iter, batch)

    def build_hooks(self):
        """Build DefaultTrainer's hooks, with the average of the weights where there is one."""
        period = self.cfg.TEST.EVAL_PERIOD
        hooks = [
            EvalHook(period, self.evaluate) if isinstance(hook, EvalHook) else hook
            for hook in super().build_hooks()
        ]
        if self.average is not None:
            hooks.insert(1, self.average)  # before what saves and evaluates
        return hooks

    def evaluate(self):
        """Evaluate the model on `DATASETS.TEST`: the average of its weights where there is one."""
        model = self.model if self.average is None else self.average.model
        share_buffers(model)
        self._last_eval_results = self.test(self.cfg, model)
        return self._last_eval_results

    def run_step(self) -> None:
        """Run an iteration.

        Raises:
            FloatingPointError: it diverged; the message says where, and which checkpoint to go back
                to.
        """
        try:
            super().run_step()
        except FloatingPointError as error:
            checkpoints = self.checkpointer.newest_first()
            raise FloatingPointError(
                advise_after_divergence(error, self.iter, checkpoints, self.cfg.MODEL.WEIGHTS)
            ) from error

    @classmethod
    def build_train_loader(cls, cfg):
        """Build the training loader with the mapper of the model."""
        return build_train_loader(cfg, build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        """Build a test loader with the mapper of the model."""
        mapper = build_mapper(cfg, is_train=False)
        return build_test_loader(cfg, dataset_name, mapper)

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        """Build the schedule: Detectron2's and DeepLab's WarmupPolyLR."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        """Build the official evaluator of a dataset."""
        return build_evaluator(cfg, dataset_name, output_folder)
