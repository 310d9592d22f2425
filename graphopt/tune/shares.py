"""Which regions are worth how many trials."""

from __future__ import annotations

from collections.abc import Sequence

_FEWEST = 3
"""Trials below which none are made: the default itself is one."""


def allot(trials: int, shares: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """How many of all trials each region gets: in proportion to its share of the model's time, no
    more than its space has points; none where that would be hardly any."""
    if trials <= 0:
        return [0] * len(shares)
    out = _proportional(trials, shares, sizes)
    few = [i for i, n in enumerate(out) if 0 < n < min(_FEWEST, sizes[i])]
    if few:  # the smallest gives up, and the others share what it had
        least = min(few, key=lambda i: shares[i])
        return allot(trials, [0.0 if i == least else s for i, s in enumerate(shares)], sizes)
    return out


def _proportional(trials: int, shares: Sequence[float], sizes: Sequence[int]) -> list[int]:
    """Largest remainders, by rounds: what a full region cannot take goes to the others."""
    out = [0] * len(shares)
    while (left := trials - sum(out)) > 0:
        free = [i for i, s in enumerate(shares) if s > 0 and out[i] < sizes[i]]
        total = sum(shares[i] for i in free)
        if not free:
            break
        exact = {i: left * shares[i] / total for i in free}
        whole = {i: min(int(e), sizes[i] - out[i]) for i, e in exact.items()}
        if not any(whole.values()):
            for i in sorted(free, key=lambda i: -exact[i])[:left]:
                out[i] += 1
            continue
        for i, n in whole.items():
            out[i] += n
    return out
