"""Reading, the network and writing side by side, in bounded memory.

Threads decode and resize, the main thread runs the network on batches of one size, and other
threads draw and write. Between them wait a few batches at most, so the memory does not depend on
the number of pictures.
"""

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from srnet.data.read import UnreadableImageError

from .inputs import Source, list_inputs
from .outputs import FORMS, Result, Writer, compact, needed_outputs
from .predictor import Predictor

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Report = Callable[[str], None]
PENDING = 4  # batches that may wait for pictures of their size
KEPT = 20  # messages that a summary keeps


@dataclass
class Summary:
    """What came of a run.

    Attributes:
        done: pictures that were predicted and written.
        failed: inputs that could not be read.
        messages: of the first of them, why.
    """

    done: int = 0
    failed: int = 0
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Loaded:
    """A picture that is ready for the network."""

    index: int
    source: Source
    image: Image.Image
    inputs: dict


def predict(
    predictor: Predictor,
    inputs: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    save: Sequence[str] = ("pictures",),
    recursive: bool = False,
    batch_size: int = 1,
    workers: int = 2,
    progress: bool = False,
    report: Report = logger.warning,
) -> Summary:
    """Predict pictures, and write the results.

    Args:
        predictor: the model.
        inputs: as :func:`.inputs.list_inputs` takes them.
        output: the folder of the results.
        save: the forms, keys of :data:`.outputs.FORMS`.
        recursive: take the images in subfolders, too.
        batch_size: pictures of one size that go through the network at once.
        workers: threads that read, and threads that write.
        progress: show a bar with the pictures a second, on a terminal.
        report: is told of each input that cannot be read; it is passed over.

    Returns:
        How many pictures were predicted, and how many could not be read.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder has no images, or the model has nothing for a form.
    """
    keys = needed_outputs(predictor.cfg.MODEL.META_ARCHITECTURE, save)
    listed = list_inputs(inputs, recursive=recursive, exclude=output)
    os.makedirs(output, exist_ok=True)
    with ExitStack() as stack:
        writers: list[Writer] = []
        for form in dict.fromkeys(save):
            writers.append(FORMS[form][0](Path(output), predictor.classes))
            stack.callback(writers[-1].close)
        bar = tqdm(total=listed.count, unit="image", disable=None if progress else True)
        stack.callback(bar.close)
        run = Pipeline(predictor, writers, keys, batch_size, workers, bar.update, report)
        return run(listed)


class Pipeline:
    """One run; see :func:`predict` for the arguments.

    After an error or an interruption the pictures that went through the network are still written.
    """

    def __init__(
        self,
        predictor: Predictor,
        writers: Sequence[Writer],
        keys: Sequence[str],
        batch_size: int,
        workers: int,
        advance: Callable[[int], object],
        report: Report,
    ):
        self.predictor, self.writers, self.keys = predictor, writers, keys
        self.batch_size, self.workers = batch_size, workers
        self.advance, self.report = advance, report
        self.summary = Summary()
        self._ahead = 2 * batch_size + workers
        self._writing: dict[int, Future | None] = {}  # None: it could not be read
        self._results: dict[int, Result] = {}
        self._next = 0

    def __call__(self, sources: Iterable[Source]) -> Summary:
        """Predict and write."""
        batches = Batches(self.batch_size)
        with (
            closing(in_background(sources, self._ahead)) as read_ahead,
            ThreadPoolExecutor(self.workers, "read") as readers,
            ThreadPoolExecutor(self.workers, "write") as self._pool,
        ):
            try:
                for loaded in self._load(readers, read_ahead):
                    for batch in batches.add(loaded):
                        self._predict(batch)
                for batch in batches.rest():
                    self._predict(batch)
            finally:
                readers.shutdown(wait=False, cancel_futures=True)
                self._append(all_of_them=True)
        return self.summary

    def _load(self, readers: ThreadPoolExecutor, sources: Iterator[Source]) -> Iterator[Loaded]:
        """Read pictures ahead, and hand them on in order."""
        waiting: deque[tuple[int, Source, Future]] = deque()
        for index, source in enumerate(sources):
            waiting.append((index, source, readers.submit(self._read, source)))
            if len(waiting) >= self._ahead:
                yield from self._loaded(*waiting.popleft())
        while waiting:
            yield from self._loaded(*waiting.popleft())

    def _read(self, source: Source) -> tuple[Image.Image, dict]:
        image = source.read()
        return image, self.predictor.prepare(image, source.path)

    def _loaded(self, index: int, source: Source, future: Future) -> Iterator[Loaded]:
        try:
            yield Loaded(index, source, *future.result())
        except UnreadableImageError as error:
            self.summary.failed += 1
            if len(self.summary.messages) < KEPT:
                self.summary.messages.append(str(error))
            self.report(f"skipped: {error}")
            self._writing[index] = None
            self.advance(1)

    def _predict(self, batch: list[Loaded]) -> None:
        outputs = self.predictor.predict([loaded.inputs for loaded in batch])
        for loaded, output in zip(batch, outputs, strict=True):
            source = loaded.source
            small = compact(output, self.keys)
            image = np.asarray(loaded.image)
            result = Result(loaded.index, source.name, source.path, image, small, source.clip)
            self._writing[loaded.index] = self._pool.submit(self._render, result)
            self._results[loaded.index] = result
        self._append()

    def _render(self, result: Result) -> list[Any]:
        return [writer.render(result) for writer in self.writers]

    def _append(self, *, all_of_them: bool = False) -> None:
        """Add what is written to the files of all, in order.

        Waits while too many pictures are not written yet.

        Args:
            all_of_them: wait for all, and pass over what was never predicted.
        """
        error: Exception | None = None
        while self._writing:
            if all_of_them:
                self._next = min(self._writing)
            if self._next not in self._writing:
                return  # it waits for pictures of its size
            future = self._writing[self._next]
            crowded = len(self._writing) > self._ahead + PENDING * self.batch_size
            if not (all_of_them or crowded or future is None or future.done()):
                return
            del self._writing[self._next]
            result = self._results.pop(self._next, None)
            self._next += 1
            try:
                if future is not None and result is not None:
                    self._add(result, future.result())
            except Exception as raised:
                if not all_of_them:
                    raise
                error = error or raised  # the others are still written
        if error is not None:
            raise error

    def _add(self, result: Result, rendered: list[Any]) -> None:
        for writer, part in zip(self.writers, rendered, strict=True):
            writer.append(result, part)
        self.summary.done += 1
        self.advance(1)


class Batches:
    """Sort pictures into batches of one size.

    Args:
        size: pictures in a batch. When `PENDING` times as many wait, the size that waits longest is
            predicted in a smaller batch.
    """

    def __init__(self, size: int):
        self.size = size
        self._waiting: dict[tuple[int, ...], list[Loaded]] = {}

    def add(self, loaded: Loaded) -> Iterator[list[Loaded]]:
        """Take a picture; yields the batches that are ready."""
        shape = tuple(loaded.inputs["image"].shape)
        self._waiting.setdefault(shape, []).append(loaded)
        if len(self._waiting[shape]) >= self.size:
            yield self._waiting.pop(shape)
        elif sum(map(len, self._waiting.values())) >= PENDING * self.size:
            yield self._waiting.pop(next(iter(self._waiting)))

    def rest(self) -> Iterator[list[Loaded]]:
        """The batches that did not become full."""
        yield from self._waiting.values()


def in_background(items: Iterable[Item], size: int) -> Generator[Item, None, None]:
    """Run an iterator in a thread of its own, `size` items ahead: videos are decoded there."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(size)
    stopped = threading.Event()

    def put(kind: str, item: Any = None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((kind, item), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end")
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=work, name="inputs", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
