"""An exponential moving average of the weights (EMA), often better than the last ones."""

import os

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from srnet.checkpoint import Checkpointer
from srnet.ranges import RANGES


class WeightAverage(HookBase):
    """Keep ``average = decay * average + (1 - decay) * weights``, of parameters and buffers.

    The averaging is PyTorch's AveragedModel. Its state is in the trainer's checkpoints; at the end
    of a finished training the averaged model is saved as `ema/model_final.pth`, to be used as any
    other.

    Args:
        model: the trained model.
        decay: the share that is kept.
        period: iterations between updates.
        output_dir: folder of the training.

    Raises:
        ValueError: ``decay`` is not between 0 and 1, or ``period`` less than 1.
    """

    def __init__(self, model: nn.Module, *, decay: float, period: int, output_dir: str):
        for key, value in (("SOLVER.EMA.DECAY", decay), ("SOLVER.EMA.PERIOD", period)):
            RANGES[key].check(key, value)
        self.source = model.module if isinstance(model, DistributedDataParallel) else model
        self.average = AveragedModel(
            self.source, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
        )
        self.period = period
        self.output_dir = output_dir

    @property
    def model(self) -> nn.Module:
        """The averaged model; the trained one's start until the first update."""
        return self.average.module

    def before_train(self) -> None:
        """Begin with the weights that were loaded after this was built."""
        if self.average.n_averaged == 0:
            self.model.load_state_dict(self.source.state_dict())

    def after_step(self) -> None:
        """Update the average."""
        if (self.trainer.iter + 1) % self.period == 0:
            self.average.update_parameters(self.source)

    def after_train(self) -> None:
        """Save the averaged model, unless the training ended before its last iteration."""
        if self.trainer.iter >= self.trainer.max_iter:
            self.save_final()

    def save_final(self) -> None:
        """Save the averaged model as that of a finished training."""
        if comm.is_main_process():
            folder = os.path.join(self.output_dir, "ema")
            os.makedirs(folder, exist_ok=True)
            Checkpointer(self.model, folder).save("model_final")

    def state_dict(self) -> dict:
        """The average and the number of updates."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what :meth:`state_dict` returned."""
        self.average.load_state_dict(state_dict)


def share_buffers(model: nn.Module) -> None:
    """Give all processes the main one's buffers.

    The statistics of a batch norm that is not synchronized differ between processes, and the
    checkpoint has the main process's. With the same everywhere an evaluation on several processes
    is the checkpoint's.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
