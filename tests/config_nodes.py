"""Configs as flat tables, for the tests that compare them."""


def flatten(node, prefix=""):
    """Yield each leaf of a config as its dotted key and its value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def difference(one, other):
    """The keys of `one` that `other` lacks or has another value of."""
    other = dict(flatten(other))
    return {key for key, value in flatten(one) if value != other.get(key)}
