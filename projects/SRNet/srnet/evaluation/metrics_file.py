"""Reading Detectron2's `metrics.json`, while it is written or after a run was killed."""

import json
import os
from collections.abc import Iterator

from srnet.data.paths import check_regular


def read_lines(path: str | os.PathLike) -> Iterator[tuple[str, dict]]:
    """Yield the whole lines of a `metrics.json`, each with its content.

    A line that was cut off or is no record of an iteration is passed over.

    Raises:
        OSError: the file cannot be read, or is no regular file.
    """
    check_regular(path)
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file.read().splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and type(record.get("iteration")) is int:
                yield line, record
