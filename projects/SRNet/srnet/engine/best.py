"""The best checkpoint of a training, and its end where it no longer gets better."""

import json
import math
import os
from typing import Any

from detectron2.engine import HookBase
from detectron2.engine.hooks import BestCheckpointer
from detectron2.utils import comm
from torch import nn

from srnet.checkpoint import Checkpointer
from srnet.checkpoint.files import replace_file


class BestWeights(Checkpointer):
    """Saves the weights of a model alone: no training goes on from them.

    Args:
        model: the model.
        save_dir: the folder; its `last_checkpoint` stays as it is.
    """

    def __init__(self, model: nn.Module, save_dir: str):
        super().__init__(model, save_dir)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save the model without its iteration."""
        super().save(name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Nothing: a resume goes on from the trainer's checkpoints."""


class MetricRecord:
    """The values of a metric in a training, in a file that a resumed run reads.

    The trainer saves its checkpoint before the evaluation of the same iteration, so a checkpoint
    alone may lack the last value.

    Args:
        path: a JSON file.
        metric: the name of the metric.
        mode: "max" or "min".
    """

    def __init__(self, path: str, metric: str, mode: str):
        self.path = path
        self.metric = metric
        self.sign = 1 if mode == "max" else -1
        self.values: dict[int, float] = {}

    def add(self, iteration: int, value: float) -> None:
        """Note a value, and write the file."""
        self.values[iteration] = value
        best, _ = self.summary()
        content = {
            "metric": self.metric,
            "mode": "max" if self.sign == 1 else "min",
            "best_iteration": best,
            "best": None if best is None else self.values[best],
            "evaluations": [
                [i, v if math.isfinite(v) else None] for i, v in sorted(self.values.items())
            ],
        }
        data = (json.dumps(content, indent=1) + "\n").encode()
        replace_file(self.path, lambda file: file.write(data))

    def restore(self, before: int) -> None:
        """Keep the values, in memory and in the file, of iterations before one."""
        try:
            with open(self.path, encoding="utf-8") as file:
                content = json.load(file)
            if content["metric"] == self.metric:
                pairs = ((int(i), math.nan if v is None else v) for i, v in content["evaluations"])
                self.values.update(pairs)
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is none, or it is no such file: the checkpoint has what it needs
        self.values = {i: v for i, v in sorted(self.values.items()) if i < before}

    def summary(self, min_delta: float = 0.0) -> tuple[int | None, int]:
        """Find the best value.

        Args:
            min_delta: a value is better if it differs by more than this.

        Returns:
            The iteration of the best value, None before the first, and how many values came since.
        """
        best, since = None, 0
        for iteration, value in sorted(self.values.items()):
            gain = math.inf if best is None else self.sign * (value - self.values[best])
            if math.isfinite(value) and gain > min_delta:
                best, since = iteration, 0
            else:
                since += 1
        return best, since


class BestCheckpoint(BestCheckpointer):
    """Detectron2's hook, on all processes, that goes on where a resumed run was.

    Args:
        period: iterations between two values of the metric.
        model: what is evaluated: the trained model or the average of its weights.
        output_dir: where `model_best.pth` and `model_best.json` are written.
        metric: its name in the trainer's storage.
        mode: "max" or "min".
    """

    def __init__(self, period: int, model: nn.Module, output_dir: str, metric: str, mode: str):
        super().__init__(period, BestWeights(model, output_dir), metric, mode)
        path = os.path.join(output_dir, "model_best.json")
        self.record = MetricRecord(path, metric, mode)

    def restore(self, start: int) -> None:
        """Prepare for a run from iteration `start` on."""
        self.record.restore(start)
        best, _ = self.record.summary()
        self.best_iter = best
        self.best_metric = None if best is None else self.record.values[best]

    def _best_checking(self) -> None:
        if not comm.is_main_process():
            return  # evaluators return nothing there
        latest = self.trainer.storage.latest()
        if self._val_metric not in latest:
            self._logger.warning(
                "TEST.BEST_CHECKPOINT.METRIC %r is none of the metrics of this training, so there "
                "is no best checkpoint: %s",
                self._val_metric,
                ", ".join(name for name in sorted(latest) if "/" in name),
            )
            return
        value, iteration = latest[self._val_metric]
        if math.isfinite(value):
            super()._best_checking()
        # The last evaluation is recorded an iteration after the weights' own.
        self.record.add(min(iteration, self.trainer.max_iter - 1), value)

    def state_dict(self) -> dict:
        """The values of the metric."""
        return {"metric": self._val_metric, "values": dict(self.record.values)}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned, where the metric is still the same."""
        if state_dict["metric"] == self._val_metric:
            self.record.values.update(state_dict["values"])


class EarlyStopping(HookBase):
    """Say when a training no longer gets better; the trainer ends it.

    Args:
        period: iterations between two values of the metric.
        record: the values.
        patience: how many values in a row may bring nothing.
        min_delta: a value is better if it differs from the best by more than this.

    Attributes:
        reason: why the training is to end, the same on all processes; "" while it goes on.
    """

    def __init__(self, period: int, record: MetricRecord, patience: int, min_delta: float):
        self.period = period
        self.record = record
        self.patience = patience
        self.min_delta = min_delta
        self.reason = ""

    def check(self) -> None:
        """Decide, on all processes together."""
        best, since = self.record.summary(self.min_delta)
        reason = ""
        if since >= self.patience:
            value = "none is a number" if best is None else f"{self.record.values[best]:.5g}"
            at = "" if best is None else f" at iteration {best}"
            reason = (
                f"{self.record.metric} has not become better in {since} evaluations "
                f"(TEST.EARLY_STOPPING.PATIENCE {self.patience}); the best is {value}{at}"
            )
        self.reason = comm.all_gather(reason)[0]  # the main process has the values

    def after_step(self) -> None:
        """Decide after an evaluation, but the last."""
        done = self.trainer.iter + 1
        if done % self.period == 0 and done != self.trainer.max_iter:
            self.check()
