"""metrics.json of a resumed run: one line an iteration, smoothed as without a break."""

import os

from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter

from srnet.data.paths import written_to
from srnet.evaluation.metrics_file import read_lines

# The largest window over which Detectron2's writers smooth, in iterations.
WINDOW = 20
# These depend on the machine and not on the run.
TIMES = ("time", "data_time", "rank_data_time", "eta_seconds")

History = dict[str, list[tuple[float, int]]]


class MetricsWriter(JSONWriter):
    """Detectron2's JSONWriter, which can go on in the file of a run that was interrupted.

    Args:
        path: the file, usually `metrics.json`.
    """

    def __init__(self, path: str):
        super().__init__(path)
        self._path = path

    def write(self) -> None:
        """Write the latest values.

        Raises:
            OSError: it cannot be written; the message names the file.
        """
        with written_to(self._path):
            super().write()

    def start_at(self, iteration: int) -> None:
        """Drop the lines of this iteration and later ones: they are written again."""
        self.close()
        drop_lines_from(self._path, iteration)
        super().__init__(self._path)
        self._last_write = iteration - 1


class EventsWriter(TensorboardXWriter):
    """Detectron2's TensorboardXWriter, whose errors name the file.

    Args:
        folder: where TensorBoard's files are.
    """

    def __init__(self, folder: str):
        super().__init__(folder)
        self._path = os.path.join(folder, "events.out.tfevents.*")

    def write(self) -> None:
        """Write the latest values.

        Raises:
            OSError: it cannot be written; the message names the file.
        """
        with written_to(self._path):
            super().write()


def drop_lines_from(path: str, iteration: int) -> None:
    """Drop from a metrics.json what an interrupted run wrote after its checkpoint.

    That is: lines of `iteration` or later, a last line that was cut off, and of several lines of
    one iteration all but the last. The file is replaced as a whole.
    """
    kept: dict[int, str] = {}
    for line, record in read_lines(path):
        number = record["iteration"]
        if number < iteration:
            kept.pop(number, None)
            kept[number] = line
    partial = f"{path}.partial-{os.getpid()}"
    try:
        with written_to(path), open(partial, "w", encoding="utf-8") as f:
            f.writelines(f"{line}\n" for line in kept.values())
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def recent_history(storage: EventStorage) -> History:
    """The values over which a writer would smooth next, by name: pairs of value and iteration."""
    smoothed = storage.smoothing_hints()
    recent = {}
    for name, history in storage.histories().items():
        if smoothed[name] and name not in TIMES:
            values = history.values()
            first = values[-1][1] - WINDOW
            recent[name] = [(value, int(i)) for value, i in values[-WINDOW:] if i > first]
    return recent


def restore_history(storage: EventStorage, history: History) -> None:
    """Put what :func:`recent_history` returned into the storage of a resumed run."""
    for name, values in history.items():
        for value, iteration in values:
            storage.put_scalar(name, value, cur_iter=iteration)
