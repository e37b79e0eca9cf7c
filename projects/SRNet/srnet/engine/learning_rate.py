"""The learning rate for a batch of another size."""

import logging

from detectron2.config import CfgNode

from srnet.ranges import check_keys


def scale_learning_rate(cfg: CfgNode) -> CfgNode:
    """Scale `SOLVER.BASE_LR` with the batch (Goyal et al., 2017), where the config asks for it.

    With `SOLVER.BASE_LR_BATCH` set, `BASE_LR` and `BASE_LR_END` are meant for a batch of that many
    images and are multiplied by `IMS_PER_BATCH / BASE_LR_BATCH`.

    Returns:
        The config, or a changed and frozen copy of it.

    Raises:
        ValueError: `BASE_LR_BATCH` is negative.
    """
    check_keys(cfg, "SOLVER.BASE_LR_BATCH")
    reference, batch = cfg.SOLVER.BASE_LR_BATCH, cfg.SOLVER.IMS_PER_BATCH
    if reference in (0, batch):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.BASE_LR *= batch / reference
    cfg.SOLVER.BASE_LR_END *= batch / reference
    cfg.freeze()
    logging.getLogger(__name__).info(
        "SOLVER.BASE_LR becomes %g: it is for %d images, and IMS_PER_BATCH is %d",
        cfg.SOLVER.BASE_LR,
        reference,
        batch,
    )
    return cfg
