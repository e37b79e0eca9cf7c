"""One iteration of a training: its batch in parts, its precision, and the check of its losses."""

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.engine import SimpleTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .divergence import check_finite
from .randomness import SeededIterations

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class IterationTrainer(SeededIterations, SimpleTrainer):
    """Detectron2's SimpleTrainer and AMPTrainer in one, which look at the losses after the step.

    Detectron2's (0.6) read each loss from the device before the step, so a GPU waits for the host
    there, and AMPTrainer needs a GPU. Here the losses are read at once when the step is on its way.
    Nothing runs between that and the check, so no hook sees or saves weights of a diverged step.

    With several parts the gradient is that of the mean of the parts' losses, which is the whole
    batch's where a loss is a mean over images. A batch norm sees a part at a time. Processes
    exchange gradients once an iteration. The schedule, the learning rate and the stream of the
    images are as without parts.

    Args:
        model: the model, in DistributedDataParallel or not.
        data_loader: yields the lists of dicts of a process.
        optimizer: its optimizer.
        parts: number of equal parts of each batch.
        amp: mixed precision.
        precision: of `PRECISIONS`, with `amp`; "" for float16 on a GPU and bfloat16 on a CPU. Only
            float16 needs losses that are scaled. The scaling looks at all gradients before each
            step, for which a GPU waits; with bfloat16 it waits for nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        parts: int = 1,
        amp: bool = False,
        precision: str = "",
    ):
        super().__init__(model, data_loader, optimizer)
        self.parts = parts
        self.amp = amp
        self.device = next(model.parameters()).device.type
        name = precision or ("bfloat16" if self.device == "cpu" else "float16")
        self.precision = PRECISIONS[name]
        scaled = amp and self.precision == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device, enabled=scaled)

    def run_step(self) -> None:
        """Train with one batch.

        Raises:
            FloatingPointError: a loss is not finite; the step has been made.
        """
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        losses = self.compute_gradients(data)
        self.after_backward()
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self._write_metrics(read_losses(losses), data_time)

    def compute_gradients(self, data: list[dict]) -> dict[str, torch.Tensor]:
        """Compute the gradients of a batch, and its losses; nothing waits for the device."""
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
        return mean_losses

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
        # Of bfloat16 it is empty: a run that goes on in float16 begins with the first scale.
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def read_losses(losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Bring scalar losses to the CPU, all in one copy, and check them.

    Raises:
        FloatingPointError: one is not finite; the message names it.
    """
    if not losses:
        return {}
    values = torch.stack([loss.detach().double() for loss in losses.values()]).cpu()
    found = dict(zip(losses, values, strict=True))
    check_finite({name: value.item() for name, value in found.items()})
    return found
