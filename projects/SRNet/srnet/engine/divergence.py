"""Stopping where the loss is not finite, with what one needs to go on."""

import math
from collections.abc import Mapping, Sequence


def check_finite(losses: Mapping[str, float]) -> None:
    """Check the losses of this process.

    Detectron2 looks at the sum over the terms of all processes, on the main one. Here each process
    looks at its own terms.

    Raises:
        FloatingPointError: one is not finite; the message names it.
    """
    wrong = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(f"the loss {', '.join(wrong)}")


def advise_after_divergence(
    error: FloatingPointError,
    iteration: int,
    own: Sequence[str],
    found: Sequence[str],
    weights: str,
) -> str:
    """Say where a training diverged and how to go on.

    Args:
        error: what went wrong.
        iteration: when.
        own: the checkpoints that this training wrote or resumed from and whose weights are finite,
            the newest first.
        found: those in the folder, in the order in which a resume tries them.
        weights: `MODEL.WEIGHTS`.
    """
    if own:
        back = f"The last checkpoint with finite weights is {own[0]}"
        before = found[: found.index(own[0])] if own[0] in found else []
        if before:
            back += f": remove {', '.join(before)}, and --resume continues from it"
        else:
            back += ": --resume continues from it"
    else:
        start = f"MODEL.WEIGHTS {weights}" if weights else "random weights"
        back = (
            "This training has no checkpoint with finite weights: start again from "
            f"{start}, without --resume"
        )
    what = str(error).rstrip(".")
    if "loss_sem_seg is nan" in what:  # Detectron2's heads divide by the number of labelled pixels
        what += " (in every label of this batch each pixel may be MODEL.SEM_SEG_HEAD.IGNORE_VALUE)"
    return (
        f"training diverged at iteration {iteration}: {what}. {back}; a smaller SOLVER.BASE_LR, a "
        "longer SOLVER.WARMUP_ITERS or SOLVER.CLIP_GRADIENTS.ENABLED True may help."
    )
