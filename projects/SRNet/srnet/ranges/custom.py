"""The entries of `DATASETS.CUSTOM`: which keys each kind of data set has, and their values."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from .values import Range, each, number, one_of

KEY = "DATASETS.CUSTOM"
OTHERS = "others"
NATURAL = number(0, whole=True)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _one_or_several(element: Range) -> Range:
    several = each(element, at_least=1)
    return Range(
        f"{element.allowed}, or a list of such",
        lambda value, cfg: element.holds(value, cfg) or several.holds(value, cfg),
        f"{element.noun} or list",
    )


TEXT = Range("a text that is not empty", lambda value, cfg: _is_text(value), "text")
NAMES = Range(
    "one or more different texts (numbers, yes, no, on and off need quotes in YAML)",
    lambda value, cfg: each(TEXT, at_least=1).holds(value, cfg) and len(set(value)) == len(value),
)
_CHANNELS = each(number(0, 255, whole=True), exactly=3)
COLOR = Range("three whole numbers [red, green, blue] from 0 to 255", _CHANNELS.holds, "colour")
_IGNORED = (_one_or_several(NATURAL), _one_or_several(COLOR), one_of(OTHERS))


class Entry(NamedTuple):
    """The keys of a kind of data set.

    Attributes:
        required: keys that must be there, with their ranges.
        optional: keys that may be there.
    """

    required: dict[str, Range]
    optional: dict[str, Range]


KINDS: dict[str, Entry] = {
    "semantic": Entry(
        {"IMAGES": TEXT, "LABELS": TEXT, "CLASSES": NAMES},
        {
            "COLORS": each(COLOR),
            "LABEL_SUFFIX": TEXT,
            "LABEL_VALUES": each(_one_or_several(NATURAL)),
            "LABEL_COLORS": each(_one_or_several(COLOR)),
            "IGNORED": Range(
                "a label value, a list of them, a list of colours with LABEL_COLORS, or others",
                lambda value, cfg: any(item.holds(value, cfg) for item in _IGNORED),
            ),
            "SPLIT": TEXT,
        },
    ),
    "instances": Entry({"IMAGES": TEXT, "JSON": TEXT}, {"CLASSES": NAMES, "COLORS": each(COLOR)}),
    "panoptic": Entry(
        {"IMAGES": TEXT, "JSON": TEXT, "PNGS": TEXT},
        {
            "INSTANCES": TEXT,
            "DERIVED": TEXT,
            "CLASSES": NAMES,
            "THINGS": NAMES,
            "COLORS": each(COLOR),
        },
    ),
    "image_folder": Entry({"FOLDER": TEXT}, {"CLASSES": NAMES}),
}
KIND = one_of(*KINDS)


class CustomDatasets(Range):
    """The range of `DATASETS.CUSTOM`, whose messages name the entry and the key in it."""

    def problem(self, key: str, value: Any, cfg: CfgNode | None = None) -> str | None:
        """What is wrong with the entries, a line each; None where nothing is."""
        return "\n".join(_problems(value)) or None


def _problems(value: Any) -> Iterator[str]:
    if not isinstance(value, list | tuple):
        yield f"{KEY}={value!r} must be {CUSTOM_DATASETS.allowed}"
        return
    for place, entry in enumerate(value):
        where = f"{KEY}[{place}]"
        if not isinstance(entry, dict):
            yield f"{where}={entry!r} must be keys and values (docs/OWN_DATA.md)"
            continue
        if _is_text(entry.get("NAME")):
            where += f" ({entry['NAME']})"
        yield from (f"{where}: {problem}" for problem in _wrong_keys(entry))
    entries = [entry for entry in value if isinstance(entry, dict)]
    names = Counter(entry["NAME"] for entry in entries if _is_text(entry.get("NAME")))
    for name, count in names.items():
        if count > 1:
            yield f"{KEY}: {count} entries have the NAME {name!r}, which must be different"


def _wrong_keys(entry: dict) -> Iterator[str]:
    """What is wrong with an entry, taken for itself."""
    kind = entry.get("KIND")
    known = {"NAME": TEXT, "KIND": KIND}
    if not (isinstance(kind, str) and kind in KINDS):
        given = (
            KIND.problem("KIND", kind) if "KIND" in entry else f"KIND is missing: {KIND.allowed}"
        )
        yield str(given)
        return
    required = {**known, **KINDS[kind].required}
    keys = {**required, **KINDS[kind].optional}
    for key in required:
        if key not in entry:
            yield f"{key} is missing: a data set of the kind {kind} has {', '.join(required)}"
    for key in entry:
        if key not in keys:
            yield f"there is no key {key} for the kind {kind}; there are {', '.join(keys)}"
    wrong = [keys[key].problem(key, entry[key]) for key in entry if key in keys]
    found = [problem for problem in wrong if problem]
    yield from found
    if not found and set(required) <= set(entry):
        yield from _contradictions(entry)


def _contradictions(entry: dict) -> Iterator[str]:
    """How the right values of an entry contradict each other."""
    classes = entry.get("CLASSES")
    for key in ("COLORS", "LABEL_VALUES", "LABEL_COLORS"):
        if classes and key in entry and len(entry[key]) != len(classes):
            yield f"{key} has {len(entry[key])} items, and CLASSES has {len(classes)}"
    unknown = [name for name in entry.get("THINGS", ()) if name not in (classes or [])]
    if unknown:
        yield f"THINGS has {unknown[0]!r}, which is not among CLASSES"
    if entry["KIND"] != "semantic":
        return
    if "LABEL_VALUES" in entry and "LABEL_COLORS" in entry:
        yield "LABEL_VALUES and LABEL_COLORS exclude each other: pixels are either of them"
        return
    ignored = entry.get("IGNORED")
    if ignored is not None and ignored != OTHERS:
        wanted = _one_or_several(COLOR if "LABEL_COLORS" in entry else NATURAL)
        # Three numbers are a colour with LABEL_COLORS, and three values without.
        if not wanted.holds(ignored, None):
            yield str(wanted.problem("IGNORED", ignored))
            return
    owners: dict[Any, str] = {}
    for owner, values in label_pixels(entry):
        for pixel in values:
            if owners.setdefault(pixel, owner) != owner:
                yield f"the label {pixel} belongs to {owners[pixel]} and to {owner}"


def label_pixels(entry: dict) -> list[tuple[str, list]]:
    """What the pixels of each class look like in label images, and then the ignored ones.

    Args:
        entry: a right one of the kind semantic.

    Returns:
        The name of each class, in their order, with values, or colours as tuples; and "IGNORED"
        with what counts for nothing.
    """
    colors = "LABEL_COLORS" in entry
    given: Sequence = entry.get("LABEL_COLORS" if colors else "LABEL_VALUES") or range(
        len(entry["CLASSES"])
    )
    pixels = [_pixels(item, colors) for item in given]
    ignored = entry.get("IGNORED", [] if colors else 255)
    names = [*entry["CLASSES"], "IGNORED"]
    pixels.append([] if ignored == OTHERS else _pixels(ignored, colors))
    return list(zip(names, pixels, strict=True))


def _pixels(value: Any, colors: bool) -> list:
    """One or several values or colours as a list; colours as tuples."""
    if not colors:
        return list(value) if isinstance(value, list | tuple) else [value]
    return [tuple(value)] if COLOR.holds(value, None) else [tuple(color) for color in value]


CUSTOM_DATASETS = CustomDatasets(
    "a list of entries with NAME, KIND and the keys of that kind (docs/OWN_DATA.md)",
    lambda value, cfg: not any(_problems(value)),
)
