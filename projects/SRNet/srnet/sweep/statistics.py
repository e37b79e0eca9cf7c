"""Mean and spread over seeds, and the paired test between two rows."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from srnet.extras import require_extra


class Summary(NamedTuple):
    """Values over seeds.

    Attributes:
        n: how many seeds.
        mean: their mean.
        spread: their standard deviation, with n - 1 below; NaN for a single one.
    """

    n: int
    mean: float
    spread: float


class Comparison(NamedTuple):
    """A row less its reference, over the seeds that both have.

    Attributes:
        n: how many seeds both have.
        difference: the mean of the differences of each seed.
        spread: their standard deviation; NaN for a single one.
        t: the statistic of the paired t-test; NaN without a spread.
        p: its two-sided probability; NaN without a spread.
    """

    n: int
    difference: float
    spread: float
    t: float
    p: float


def summarise(values: Mapping[int, float]) -> Summary:
    """Mean and spread of the values of at least one seed."""
    numbers = np.array(list(values.values()), np.float64)
    spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else float("nan")
    return Summary(len(numbers), float(numbers.mean()), spread)


def compare(values: Mapping[int, float], reference: Mapping[int, float]) -> Comparison | None:
    """Compare a row with another one, seed by seed; None where they have no seed in common."""
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    pair = [np.array([v[s] for s in seeds], np.float64) for v in (values, reference)]
    n, mean, spread = summarise(dict(zip(seeds, pair[0] - pair[1], strict=True)))
    t = p = float("nan")
    if n > 1 and spread > 0:
        require_extra("scipy", "the paired test of a sweep")
        from scipy.stats import ttest_rel

        t, p = map(float, ttest_rel(*pair))
    return Comparison(n, mean, spread, t, p)


def needed_ratio(n: int) -> float:
    """How many times its spread a difference of n pairs must be for a p below 0.05."""
    require_extra("scipy", "the paired test of a sweep")
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1)) / n**0.5
