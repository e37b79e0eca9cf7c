"""Weights & Biases, through its own copy of what TensorBoard gets."""

import os

import yaml
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm


class WandbSync(HookBase):
    """Start a run of Weights & Biases before TensorBoard's writer, and finish it after it.

    A resumed training goes on in its run; `OUTPUT_DIR/wandb_run.txt` has the id.

    Args:
        cfg: the config, with `WANDB`; the run keeps it.
    """

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg

    def before_train(self) -> None:
        """Start the run, on the main process."""
        if not comm.is_main_process():
            return
        import wandb

        folder = self.cfg.OUTPUT_DIR
        path = os.path.join(folder, "wandb_run.txt")
        known = None
        if self.trainer.start_iter and os.path.isfile(path):
            with open(path) as file:
                known = file.read().strip()
        run = wandb.init(
            project=self.cfg.WANDB.PROJECT,
            name=self.cfg.WANDB.NAME or os.path.basename(os.path.abspath(folder)),
            config=yaml.safe_load(self.cfg.dump()),
            dir=folder,
            id=known,
            resume="allow",
            sync_tensorboard=True,
        )
        with open(path, "w") as file:
            file.write(run.id)

    def after_train(self) -> None:
        """Finish the run."""
        if comm.is_main_process():
            import wandb

            wandb.finish()
