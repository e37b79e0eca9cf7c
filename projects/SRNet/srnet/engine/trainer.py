"""Detectron2's DefaultTrainer with this project's data, schedule, evaluators and checkpoints."""

import logging
import os
import signal
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase
from detectron2.engine.defaults import create_ddp_model
from detectron2.engine.hooks import EvalHook, PreciseBN
from detectron2.evaluation import DatasetEvaluator
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter
from detectron2.utils.logger import setup_logger
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from srnet.checkpoint import Checkpointer
from srnet.data import (
    build_mapper,
    build_test_loader,
    build_train_loader,
    start_at_iteration,
)
from srnet.evaluation import build_evaluator

from .averaging import WeightAverage, share_buffers
from .best import BestCheckpoint, EarlyStopping
from .checks import check_training
from .divergence import advise_after_divergence
from .explain import tracebacks_in_files_alone, training_errors_explained
from .first_process import Awaited
from .iteration import IterationTrainer
from .learning_rate import scale_learning_rate
from .lock import check_unlocked, output_dir_locked
from .metrics import EventsWriter, History, MetricsWriter, recent_history, restore_history
from .randomness import run_seed
from .resume import (
    log_changes,
    move_schedule,
    parameter_names,
    resumed_optimizer,
    solver_values,
)
from .selection import selection_period
from .signals import (
    EvaluationInterrupted,
    StopSignals,
    TrainingStopped,
    agree_on_signal,
    wait_for_all,
)
from .validation import ValidationLoss
from .wandb_sync import WandbSync

logger = logging.getLogger(__name__)


class StoppedEarly(BaseException):
    """Leaves the loop of a training that no longer gets better."""


class Trainer(DefaultTrainer):
    """Train a model as its config says.

    The constructor is DefaultTrainer's but for two things that cannot be passed to it (0.6): the
    checkpointer, and the device ids of DDP. A model on the CPU refuses those that
    `create_ddp_model` chooses, the ranks on the machine.

    A training can be resumed in three ways:

    * `--resume` with the same config: the run goes on as if it had not been interrupted, to the
      last bit on a CPU. With `SEED` below 0 the seed that was drawn is kept in the checkpoint.
    * `--resume` with another config: weights, iteration and the optimizer's moments are the
      checkpoint's, and every hyper-parameter and the schedule are the config's. The log says which
      keys changed.
    * From the weights alone: `MODEL.WEIGHTS OUTPUT_DIR/model_0009999.pth`, another `OUTPUT_DIR` and
      no `--resume`. Iteration, schedule, moments and random numbers start anew.

    SIGTERM, SIGUSR1 and SIGINT end a training after its iteration with a checkpoint, see
    :mod:`srnet.engine.signals`. A lock keeps a second training out of its OUTPUT_DIR, see
    :mod:`srnet.engine.lock`.

    Args:
        cfg: a frozen config.

    Raises:
        OutputDirInUse: another training runs in `OUTPUT_DIR`.
        ValueError: the config cannot be trained with; the message names the key.
    """

    iter: int

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = self.auto_scale_workers(scale_learning_rate(cfg), comm.get_world_size())
        check_training(cfg)
        check_unlocked(cfg.OUTPUT_DIR)
        seed = run_seed(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        names = parameter_names(model, optimizer)
        loader = self.build_train_loader(with_seed(cfg, seed))
        # Under srun the number of a GPU is not that of the process.
        gpus = None if cfg.MODEL.DEVICE == "cpu" else [torch.cuda.current_device()]
        model = create_ddp_model(
            model,
            broadcast_buffers=False,
            device_ids=gpus,
            gradient_as_bucket_view=cfg.SOLVER.DDP.GRADIENT_AS_BUCKET_VIEW,
            static_graph=cfg.SOLVER.DDP.STATIC_GRAPH,
        )
        self._trainer = IterationTrainer(
            model,
            loader,
            optimizer,
            parts=cfg.SOLVER.ACCUMULATE,
            amp=cfg.SOLVER.AMP.ENABLED,
            precision=cfg.SOLVER.AMP.PRECISION,
        )
        self._trainer.seed = seed
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
        self._parameter_names = names
        self._history: History = {}
        self._signals = StopSignals()
        self._stopping = 0
        self._agreed = False
        self._best, self._early_stopping = self._build_selection()
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the newest whole checkpoint, or begin with the weights of the config.

        Args:
            resume: whether to continue; where there is no checkpoint `MODEL.WEIGHTS` is loaded.
        """
        loaded = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if "iteration" in loaded:  # only after a resume
            self.start_iter = loaded["iteration"] + 1
            batch = self.cfg.SOLVER.IMS_PER_BATCH
            start_at_iteration(self.data_loader, self.start_iter, batch)
        if self._best is not None:
            self._best.restore(self.start_iter)
        if self._early_stopping is not None:
            self._early_stopping.check()

    def state_dict(self) -> dict:
        """DefaultTrainer's state, and what :meth:`load_state_dict` needs beyond it."""
        state = super().state_dict()
        state["seed"] = self._trainer.seed
        state["solver"] = solver_values(self.cfg)
        state["parameters"] = self._parameter_names
        state["history"] = recent_history(self.storage) if hasattr(self, "storage") else {}
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue what :meth:`state_dict` returned, with the hyper-parameters of the config."""
        log_changes(state_dict.get("solver"), solver_values(self.cfg))
        inner = dict(state_dict["_trainer"])
        inner["optimizer"] = resumed_optimizer(
            self.optimizer, self._parameter_names, inner["optimizer"], state_dict.get("parameters")
        )
        scaler = getattr(self._trainer, "grad_scaler", None)
        if scaler is not None and not inner.get("grad_scaler"):
            inner["grad_scaler"] = scaler.state_dict()  # that run had no mixed precision
        # The schedule is the config's; only the position in it is the checkpoint's.
        hooks = dict(state_dict["hooks"])
        position = hooks.pop("LRScheduler")["last_epoch"]
        super().load_state_dict({**state_dict, "hooks": hooks, "_trainer": inner})
        move_schedule(self.scheduler, min(position, self.max_iter))
        self._history = state_dict.get("history", {})
        seed = state_dict.get("seed", self._trainer.seed)
        if self.cfg.SEED < 0 and seed != self._trainer.seed:
            self._trainer.seed = seed
            cfg = with_seed(self.cfg, seed)
            self._trainer.reset_data_loader(lambda: self.build_train_loader(cfg))

    def build_hooks(self) -> list[HookBase]:
        """Build DefaultTrainer's hooks, and those that the config asks for."""
        hooks: list[HookBase] = []
        for hook in super().build_hooks():
            if not isinstance(hook, EvalHook):
                hooks.append(hook)
                continue
            if self.cfg.TEST.VALIDATION_LOSS.PERIOD:
                hooks.append(ValidationLoss(self.cfg, self.evaluated_model))
            hooks.append(EvalHook(self.cfg.TEST.EVAL_PERIOD, self.evaluate))
            hooks += [h for h in (self._best, self._early_stopping) if h is not None]
        if self.average is not None:
            hooks.insert(1, self.average)  # before what saves and evaluates
            self._add_precise_averages(hooks, self.average.model)
        if self.cfg.WANDB.ENABLED:
            hooks.append(WandbSync(self.cfg))  # finished after the writers
        return hooks

    def _add_precise_averages(self, hooks: list[HookBase], average: nn.Module) -> None:
        """Add Detectron2's PreciseBN for the averaged model where there is one for the trained."""
        for place, hook in enumerate(hooks):
            if isinstance(hook, PreciseBN):
                period, count = self.cfg.TEST.EVAL_PERIOD, self.cfg.TEST.PRECISE_BN.NUM_ITER
                hooks.insert(place + 1, PreciseBN(period, average, hook._data_loader, count))
                return

    def _build_selection(self) -> tuple[BestCheckpoint | None, EarlyStopping | None]:
        """Build the hooks of the best checkpoint and of early stopping."""
        best, stop = self.cfg.TEST.BEST_CHECKPOINT, self.cfg.TEST.EARLY_STOPPING
        if not best.METRIC:
            return None, None
        period = selection_period(self.cfg)
        hook = BestCheckpoint(
            period, self.evaluated_model, self.cfg.OUTPUT_DIR, best.METRIC, best.MODE
        )
        if not stop.PATIENCE:
            return hook, None
        return hook, EarlyStopping(period, hook.record, stop.PATIENCE, stop.MIN_DELTA)

    @property
    def evaluated_model(self) -> nn.Module:
        """The average of the weights where there is one, or else the model, not in DDP."""
        return self.checkpointer.model if self.average is None else self.average.model

    def build_writers(self) -> list[EventWriter]:
        """Build Detectron2's writers, with a metrics.json that a resumed run can continue."""
        folder = self.cfg.OUTPUT_DIR
        os.makedirs(folder, exist_ok=True)
        self._metrics = MetricsWriter(os.path.join(folder, "metrics.json"))
        return [CommonMetricPrinter(self.max_iter), self._metrics, EventsWriter(folder)]

    def train(self) -> dict | None:
        """Run the training, from `start_iter` on.

        Returns:
            The results of the last evaluation in the main process where TEST.EXPECTED_RESULTS is
            set, as DefaultTrainer does.

        Raises:
            OutputDirInUse: another training runs in `OUTPUT_DIR`.
            TrainingStopped: a signal came; a checkpoint is saved, on all processes.
        """
        if self._early_stopping is not None and self._early_stopping.reason:
            logger.warning(
                "Nothing left to train: the training stopped early, since %s. A larger "
                "TEST.EARLY_STOPPING.PATIENCE goes on",
                self._early_stopping.reason,
            )
            return None
        if self.start_iter >= self.max_iter:
            logger.warning(
                "Nothing left to train: the checkpoint is of iteration %d, and SOLVER.MAX_ITER is "
                "%d",
                self.start_iter - 1,
                self.max_iter,
            )
        with self._signals:
            try:
                with (
                    output_dir_locked(self.cfg.OUTPUT_DIR),
                    training_errors_explained(self.cfg),
                    tracebacks_in_files_alone(),
                ):
                    return super().train()
            except StoppedEarly:
                return None
            except TrainingStopped:
                # The first process that ends makes the launcher end the others.
                wait_for_all(agreed=self._agreed)
                raise

    def before_train(self) -> None:
        """Prepare the metrics of a resumed run, then run the hooks."""
        if self.start_iter and comm.is_main_process():
            self._metrics.start_at(self.start_iter)
        restore_history(self.storage, self._history)
        super().before_train()

    def after_step(self) -> None:
        """Run the hooks; stop after a signal, or where the training no longer gets better.

        Raises:
            TrainingStopped: a process received a signal.
        """
        self._stopping = agree_on_signal(self._signals.received)
        self._agreed = bool(self._stopping)
        try:
            super().after_step()
        except EvaluationInterrupted:
            self._stopping = self._signals.received
        if self._early_stopping is not None and self._early_stopping.reason:
            self._stop_early(self._early_stopping.reason)
        if self._stopping:
            self._save_and_stop()

    def _stop_early(self, reason: str) -> None:
        """Save what a finished training leaves, and leave the loop."""
        self.checkpointer.save("model_final", iteration=self.iter)
        if self.average is not None:
            self.average.save_final()
        logger.info("Early stopping: training ends after iteration %d, since %s", self.iter, reason)
        raise StoppedEarly

    def after_train(self) -> None:
        """Run the hooks, at the iteration at which the training ended.

        Raises:
            TrainingStopped: a signal interrupted the last evaluation.
        """
        # TrainerBase counts one more where there was nothing left to train.
        self.iter = min(self.iter, max(self.start_iter, self.max_iter))
        final = os.path.join(self.cfg.OUTPUT_DIR, "model_final.pth")
        if self.start_iter >= self.max_iter and not os.path.exists(final):
            self.checkpointer.save("model_final", iteration=self.start_iter - 1)
        try:
            super().after_train()
        except EvaluationInterrupted:
            self._stopping = self._signals.received
            logger.warning("%s: the last evaluation is left out", self._signal_name())
            raise TrainingStopped(self._stopping) from None

    def _save_and_stop(self) -> None:
        """Save a checkpoint of this iteration, unless there is one, and leave the loop."""
        done = self.iter + 1
        if done % self.cfg.SOLVER.CHECKPOINT_PERIOD and done < self.max_iter:
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
        logger.warning(
            "%s: training stopped after iteration %d; --resume continues it",
            self._signal_name(),
            self.iter,
        )
        raise TrainingStopped(self._stopping)

    def _signal_name(self) -> str:
        return signal.Signals(self._stopping).name

    def evaluate(self) -> dict:
        """Evaluate the model on `DATASETS.TEST`: the average of its weights where there is one."""
        if self._stopping:
            return {}
        model = self.model if self.average is None else self.average.model
        with self.interruptible():
            share_buffers(model)
            self._last_eval_results = self.test(self.cfg, model)
        return self._last_eval_results

    def interruptible(self) -> AbstractContextManager[None]:
        """A block, such as an evaluation, that a stop signal leaves at once."""
        return self._signals.interruptible()

    def run_step(self) -> None:
        """Run an iteration.

        Raises:
            FloatingPointError: it diverged; the message says where, and which checkpoint to go back
                to.
        """
        try:
            super().run_step()
        except FloatingPointError as error:
            own, found = self.checkpointer.written(), self.checkpointer.newest_first()
            raise FloatingPointError(
                advise_after_divergence(error, self.iter, own, found, self.cfg.MODEL.WEIGHTS)
            ) from error

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict]]:
        """Build the training loader with the mapper of the model."""
        mapper = build_mapper(cfg, is_train=True)
        return build_train_loader(cfg, mapper, device=cfg.MODEL.DEVICE)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
        """Build a test loader with the mapper of the model."""
        mapper = build_mapper(cfg, is_train=False)
        return build_test_loader(cfg, dataset_name, mapper, device=cfg.MODEL.DEVICE)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        """Build the schedule: Detectron2's and DeepLab's WarmupPolyLR."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Build the official evaluator of a dataset."""
        evaluator = build_evaluator(cfg, dataset_name, output_folder)
        return Awaited(evaluator) if comm.get_world_size() > 1 else evaluator


def with_seed(cfg: CfgNode, seed: int) -> CfgNode:
    """A frozen copy of a config with another `SEED`."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = seed
    cfg.freeze()
    return cfg
