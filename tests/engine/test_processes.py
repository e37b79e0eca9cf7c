"""A run on two processes without a GPU is the run on one, in double precision to rounding.

In single precision the two part after a few steps, as runs do whose sums are ordered otherwise.
"""

import json
import os
import subprocess
import sys

import pytest
from srnet import get_cfg
from srnet.engine import close_process_groups


@close_process_groups
def run(output: str, config: str, opts: list[str]) -> None:
    import torch
    from detectron2.engine import HookBase
    from detectron2.utils import comm
    from detectron2.utils.env import seed_all_rng
    from srnet.engine import Trainer

    torch.set_num_threads(1)
    cfg = get_cfg(config, opts)
    seed_all_rng(cfg.SEED + comm.get_rank())
    losses = []

    class DoubleTrainer(Trainer):
        @classmethod
        def build_model(cls, cfg):
            return super().build_model(cfg).double()

    trainer = DoubleTrainer(cfg)

    class Record(HookBase):
        def after_step(self):
            if comm.is_main_process():
                losses.append(self.trainer.storage.history("total_loss").latest())

    trainer._hooks = [h for h in trainer._hooks if type(h).__name__ == "LRScheduler"]
    trainer.register_hooks([Record()])
    trainer.train()
    if comm.is_main_process():
        model = trainer.checkpointer.model
        average = {n: b.mean().item() for n, b in model.named_buffers() if "running" in n}
        with open(output, "w") as f:
            json.dump([losses, average], f)


def main(processes: str, output: str, config: str, *opts: str) -> None:
    from detectron2.engine import launch

    launch(run, int(processes), dist_url="auto", args=(output, config, list(opts)))


@pytest.mark.parametrize("loss", ["cross_entropy", "ohem"])
def test_two_processes_have_the_losses_of_one(small_camvid, root, tmp_path, loss):
    config = root / "configs/CamVid-SemanticSegmentation/dfnet_v1_SR.yaml"
    chosen = {"INPUT.CROP.SIZE": "[64,64]", "INPUT.MIN_SIZE_TRAIN": "(48,96)", "SEED": 1}
    chosen |= {"SOLVER.IMS_PER_BATCH": 4, "DATALOADER.NUM_WORKERS": 0, "SOLVER.WARMUP_ITERS": 0}
    chosen |= {"SOLVER.MAX_ITER": 6, "OUTPUT_DIR": tmp_path, "DATASETS.TEST": "()"}
    # With no fewest number, OHEM decides for each pixel alone.
    chosen |= {"MODEL.SEM_SEG_HEAD.LOSS_TYPE": loss, "MODEL.SEM_SEG_HEAD.OHEM_MIN_KEPT": 0}
    opts = [str(x) for item in chosen.items() for x in item]
    results = []
    for processes in ("1", "2"):
        output = tmp_path / f"{processes}.json"
        subprocess.run(
            [sys.executable, __file__, processes, output, config, *opts],
            env={**os.environ, "DETECTRON2_DATASETS": str(small_camvid), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        results.append(json.loads(output.read_text()))
    (one, statistics), (two, statistics_of_two) = results
    assert len(one) == 6 and len(set(one)) == 6
    assert two == pytest.approx(one, rel=1e-8)
    means = [name for name in statistics if "running_mean" in name]
    assert [statistics_of_two[n] for n in means] == pytest.approx([statistics[n] for n in means])


if __name__ == "__main__":
    main(*sys.argv[1:])
