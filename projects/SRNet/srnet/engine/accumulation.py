"""Gradient accumulation: a batch in several parts, for GPUs that cannot hold it at once."""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .divergence import FiniteLosses
from .randomness import SeededIterations


class AccumulatingTrainer(SeededIterations, FiniteLosses):
    """Detectron2's SimpleTrainer or AMPTrainer with the batch of an iteration in equal parts.

    The gradient is that of the mean of the parts' losses, which is the whole batch's where a loss
    is a mean over images. A batch norm sees a part at a time. Processes exchange gradients once an
    iteration. The schedule, the learning rate and the stream of the images are as without parts.

    Args:
        model: the model, in DistributedDataParallel or not.
        data_loader: yields the lists of dicts of a process.
        optimizer: its optimizer.
        parts: number of parts.
        amp: mixed precision: float16 with scaled losses on a GPU, bfloat16 on a CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        parts: int,
        amp: bool = False,
    ):
        super().__init__(model, data_loader, optimizer)
        self.parts = parts
        self.amp = amp
        self.device = next(model.parameters()).device.type
        self.precision = torch.bfloat16 if self.device == "cpu" else torch.float16
        scaled = amp and self.precision == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device, enabled=scaled)

    def run_step(self) -> None:
        """Train with one batch."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        size = len(data) // self.parts
        self.optimizer.zero_grad()
        mean_losses: dict[str, torch.Tensor] = {}
        for part in range(self.parts):
            with self._synchronization(last=part == self.parts - 1):
                with torch.autocast(self.device, self.precision, enabled=self.amp):
                    losses = self.model(data[part * size : (part + 1) * size])
                losses = {name: loss / self.parts for name, loss in losses.items()}
                self.grad_scaler.scale(sum(losses.values())).backward()
            for name, loss in losses.items():
                mean_losses[name] = mean_losses.get(name, 0) + loss.detach()
        self.after_backward()
        self._write_metrics(mean_losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _synchronization(self, last: bool) -> AbstractContextManager[None]:
        parallel = isinstance(self.model, DistributedDataParallel)
        return self.model.no_sync() if parallel and not last else nullcontext()

    def state_dict(self) -> dict:
        """The optimizer, and with mixed precision the scale, as AMPTrainer's."""
        state = super().state_dict()
        if self.amp:
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned."""
        super().load_state_dict(state_dict)
        if self.amp and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
