"""What the values of config keys may be: one table, checked before anything is built.

A plain table from key to :class:`Range`, not pydantic. The keys are Detectron2's: yacs holds their
defaults and types, and refuses unknown keys and other types. A pydantic model would repeat all of
them to add ranges, and would have to follow each release of Detectron2. The table has only what
yacs cannot say: ranges, choices, lengths of lists, and how one key limits another.
"""

from .check import check_keys, check_ranges, find_problems
from .table import RANGES
from .values import Range, each, names_in, number, one_of

__all__ = [
    "RANGES",
    "Range",
    "check_keys",
    "check_ranges",
    "each",
    "find_problems",
    "names_in",
    "number",
    "one_of",
]
