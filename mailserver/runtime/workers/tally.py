"""The metrics of several workers as those of one server.

A family is [name, how, kind, help, samples], a sample [name, labels, value], as `Metrics.families`
makes them. Counters and histograms of workers that are gone still count, or the sums would go
down, which Prometheus takes for a restart of everything.
"""

from collections.abc import Iterable
from typing import Any

Family = list[Any]

SUM, LARGEST = "sum", "largest"  # how values of several workers make one
_LASTING = frozenset({"counter", "histogram"})


def merged(tallies: Iterable[list[Family]]) -> list[Family]:
    """Return one tally of several."""
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for tally in tallies:
        for name, how, kind, text, samples in tally:
            families.setdefault(name, [name, how, kind, text])
            known = values.setdefault(name, {})
            for sample, labels, value in samples:
                key = (sample, tuple(sorted(labels.items())))
                if key not in known:
                    known[key] = value
                else:
                    known[key] = max(known[key], value) if how == LARGEST else known[key] + value
    return [
        [*family, [[sample, dict(labels), value] for (sample, labels), value in known.items()]]
        for family, known in zip(families.values(), values.values(), strict=True)
    ]


def lasting(tally: list[Family]) -> list[Family]:
    """Return what still counts of a worker that is gone."""
    return [family for family in tally if family[2] in _LASTING]
