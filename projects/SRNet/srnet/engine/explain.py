"""Errors of PyTorch during a training, with the config keys that help."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection

import torch
from detectron2.config import CfgNode
from detectron2.engine import train_loop
from detectron2.utils import comm

from srnet.data.paths import written_to

_WORKER = re.compile(
    r"DataLoader worker .*(killed by signal|exited unexpectedly)"
    r"|Caught \S*MemoryError in DataLoader worker|unable to (mmap|allocate|resize|write) .*shm"
    r"|shared memory",
    re.DOTALL,
)
_ONE_VALUE = re.compile(r"Expected more than 1 value per channel")


@contextmanager
def training_errors_explained(cfg: CfgNode, *, evaluating: bool = False) -> Iterator[None]:
    """Turn errors that come from the size of a batch into messages that name its keys.

    Args:
        cfg: the config of the run.
        evaluating: whether the sizes of an evaluation count, not those of a training.

    Raises:
        OSError: a file cannot be written; where nothing else names it, the message has OUTPUT_DIR.
        RuntimeError: memory ran out, on the GPU or in a worker of the data loader.
        ValueError: a norm had a single value a channel.
    """
    try:
        with written_to(cfg.OUTPUT_DIR):
            yield
    except (ConnectionError, EOFError) as error:
        # While a batch was being received from a worker that was killed.
        frames = traceback.extract_tb(error.__traceback__)
        if any(frame.filename == connection.__file__ for frame in frames):
            raise RuntimeError(_worker_memory(cfg, error, evaluating)) from error
        raise
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise RuntimeError(_gpu_memory(cfg, error, evaluating)) from error
        if isinstance(error, MemoryError) or _WORKER.search(str(error)):
            raise RuntimeError(_worker_memory(cfg, error, evaluating)) from error
        raise
    except ValueError as error:
        if _ONE_VALUE.search(str(error)):
            raise ValueError(_one_value(cfg, error)) from error
        raise


@contextmanager
def tracebacks_in_files_alone() -> Iterator[None]:
    """Keep the traceback that Detectron2 logs when a training fails off the terminal.

    The error itself reaches the caller, who tells it in one line; log.txt has the traceback.
    """
    handlers = [
        handler
        for handler in logging.getLogger("detectron2").handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)
    ]
    for handler in handlers:
        handler.addFilter(_is_no_traceback)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_no_traceback)


def _is_no_traceback(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.name == train_loop.__name__)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _what_is_large(cfg: CfgNode, evaluating: bool) -> str:
    """The keys that set the number and the size of the images at once, with their values."""
    classifier = cfg.MODEL.META_ARCHITECTURE == "ImageClassifier"
    if evaluating:
        if classifier:
            sizes = cfg.INPUT.CLASSIFICATION
            batch = f"INPUT.CLASSIFICATION.BATCH_TEST {sizes.BATCH_TEST}"
            return f"{batch} or INPUT.CLASSIFICATION.SIZE_TEST {sizes.SIZE_TEST}"
        shorter, longer = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        return f"INPUT.MIN_SIZE_TEST {shorter} or INPUT.MAX_SIZE_TEST {longer}"
    batch = f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}"
    if classifier:
        return f"{batch} or INPUT.CLASSIFICATION.SIZE {cfg.INPUT.CLASSIFICATION.SIZE}"
    if cfg.INPUT.CROP.ENABLED:
        return f"{batch} or INPUT.CROP.SIZE {list(cfg.INPUT.CROP.SIZE)}"
    sizes = f"INPUT.MIN_SIZE_TRAIN {tuple(cfg.INPUT.MIN_SIZE_TRAIN)}"
    return f"{batch} or {sizes} and INPUT.MAX_SIZE_TRAIN {cfg.INPUT.MAX_SIZE_TRAIN}"


def _worker_memory(cfg: CfgNode, error: BaseException, evaluating: bool) -> str:
    return (
        f"a worker of the data loader ended, most likely for lack of memory ({_first_line(error)}):"
        f" lower DATALOADER.NUM_WORKERS {cfg.DATALOADER.NUM_WORKERS}, "
        f"{_what_is_large(cfg, evaluating)}, or give the machine (or /dev/shm) more"
    )


def _gpu_memory(cfg: CfgNode, error: BaseException, evaluating: bool) -> str:
    advice = f"out of memory ({_first_line(error)}): lower {_what_is_large(cfg, evaluating)}"
    if evaluating:
        return advice
    return (
        f"{advice}, raise SOLVER.ACCUMULATE {cfg.SOLVER.ACCUMULATE}, or set SOLVER.AMP.ENABLED True"
    )


def _one_value(cfg: CfgNode, error: BaseException) -> str:
    images = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size() // cfg.SOLVER.ACCUMULATE
    return (
        f"a batch norm has one value a channel ({_first_line(error)}): modules that pool the whole "
        f"map, such as MODEL.CONTEXT.NAME psp (here {cfg.MODEL.CONTEXT.NAME!r}), need 2 images or "
        f"more at once, and a process has {images} (SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}"
        f" / processes / SOLVER.ACCUMULATE {cfg.SOLVER.ACCUMULATE}): raise SOLVER.IMS_PER_BATCH, "
        "or set MODEL.SEM_SEG_HEAD.NORM GN"
    )
