"""What was learned: how often each feature was in spam and in other mail, and what follows from it.

A naive Bayes classifier whose evidence is averaged by group of features (`tokens.Features`): so a
long text does not drown who wrote it; the groups are then weighed as `calibration` says. Only
counts are kept, so a lesson can be taken back exactly.
"""

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import exp, log

from mailserver.antispam.content import calibration
from mailserver.antispam.content.tokens import VERSION, Features

SERVER_BITS = 20  # 8 MiB of counts
ACCOUNT_BITS = 17  # 1 MiB
_HEADER = struct.Struct("<HHIIQ")  # version, bits, ham, spam, number of features


class Incompatible(Exception):
    """What was stored was learned with other features."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A message that somebody called spam or not; negative `times` take lessons back."""

    features: Features
    spam: bool
    times: int = 1


class Counts:
    """How many spam and ham messages had each feature; features share places by their last bits."""

    __slots__ = ("bits", "ham", "ham_lessons", "spam", "spam_lessons")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.ham = array("I", bytes(4 << bits))
        self.spam = array("I", bytes(4 << bits))
        self.ham_lessons = 0
        self.spam_lessons = 0

    @property
    def size(self) -> int:
        """Octets of memory."""
        return 8 << self.bits

    @property
    def lessons(self) -> int:
        """How many messages were learned."""
        return self.ham_lessons + self.spam_lessons

    def learn(self, lesson: Lesson) -> None:
        """Count a message, or no longer; what was never counted is not taken back."""
        self.add(delta_of([lesson], self.bits))

    def add(self, delta: "Delta") -> None:
        """Add counts; places of a delta for more bits fall together."""
        mask = (1 << self.bits) - 1
        for place, ham, spam in zip(delta.places, delta.ham, delta.spam, strict=True):
            at = place & mask
            self.ham[at] = max(self.ham[at] + ham, 0)
            self.spam[at] = max(self.spam[at] + spam, 0)
        self.ham_lessons = max(self.ham_lessons + delta.ham_lessons, 0)
        self.spam_lessons = max(self.spam_lessons + delta.spam_lessons, 0)

    def pack(self) -> bytes:
        """Return all that is not zero."""
        places = array("I", (at for at in range(1 << self.bits) if self.ham[at] or self.spam[at]))
        header = _HEADER.pack(VERSION, self.bits, self.ham_lessons, self.spam_lessons, len(places))
        counts = (array("I", (column[at] for at in places)) for column in (self.ham, self.spam))
        return header + places.tobytes() + b"".join(each.tobytes() for each in counts)

    @classmethod
    def unpack(cls, data: bytes) -> "Counts":
        """Read what `pack` made; Incompatible when it means nothing now."""
        version, bits, ham, spam, length = _HEADER.unpack_from(data)
        if version != VERSION:
            raise Incompatible(f"features of version {version}")
        counts = cls(bits)
        counts.ham_lessons, counts.spam_lessons = ham, spam
        places, hams, spams = _columns(data[_HEADER.size :], length, "III")
        for at, some_ham, some_spam in zip(places, hams, spams, strict=True):
            counts.ham[at], counts.spam[at] = some_ham, some_spam
        return counts


@dataclass(frozen=True, slots=True)
class Delta:
    """What lessons change."""

    places: "array[int]"
    ham: "array[int]"  # how many more messages; may be negative
    spam: "array[int]"
    ham_lessons: int = 0
    spam_lessons: int = 0

    def pack(self) -> bytes:
        """Return it as octets."""
        header = struct.pack(
            "<HiiI", VERSION, self.ham_lessons, self.spam_lessons, len(self.places)
        )
        return header + self.places.tobytes() + self.ham.tobytes() + self.spam.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> "Delta":
        """Read what `pack` made; Incompatible when it means nothing now."""
        version, ham, spam, length = struct.unpack_from("<HiiI", data)
        if version != VERSION:
            raise Incompatible(f"features of version {version}")
        places, hams, spams = _columns(data[struct.calcsize("<HiiI") :], length, "Iii")
        return cls(places, hams, spams, ham, spam)


def _columns(data: bytes, length: int, types: str) -> list["array[int]"]:
    columns = []
    for at, letter in enumerate(types):
        column: array[int] = array(letter)
        column.frombytes(data[4 * length * at : 4 * length * (at + 1)])
        columns.append(column)
    return columns


def delta_of(lessons: Iterable[Lesson], bits: int) -> Delta:
    """Return what lessons change, for a model of that many bits."""
    mask = (1 << bits) - 1
    changed: dict[int, list[int]] = {}
    totals = [0, 0]
    for lesson in lessons:
        totals[lesson.spam] += lesson.times
        # a message counts once for a place, however many of its features share it
        for place in {each & mask for group in lesson.features for each in group}:
            changed.setdefault(place, [0, 0])[lesson.spam] += lesson.times
    rows = {place: counts for place, counts in sorted(changed.items()) if counts != [0, 0]}
    return Delta(
        array("I", rows),
        array("i", (ham for ham, _ in rows.values())),
        array("i", (spam for _, spam in rows.values())),
        *totals,
    )


# Judging -----------------------------------------------------------------------------------------


def evidence(
    features: Features, server: Counts, own: Counts | None = None, weight: int = 1
) -> list[float]:
    """Return for each group the mean logarithm of the odds that its features speak of spam.

    What speaks clearly weighs more: each logarithm counts as much as it is far from even odds.
    `own` is what one account taught, each lesson counted `weight` times. A feature is as credible
    as it is frequent (Robinson); those that say little are left out.
    """
    ham_total = server.ham_lessons + (own.ham_lessons * weight if own else 0)
    spam_total = server.spam_lessons + (own.spam_lessons * weight if own else 0)
    if not ham_total or not spam_total:
        return [0.0] * len(features)
    return [_mean_odds(group, server, own, weight, spam_total / ham_total) for group in features]


def _mean_odds(
    group: Iterable[int], server: Counts, own: Counts | None, weight: int, ratio: float
) -> float:
    strength = calibration.STRENGTH
    total, weight_of_all = 0.0, calibration.DAMPING
    for (ham, spam), features in _by_counts(group, server, own, weight).items():
        seen = ham + spam
        if not seen:
            continue
        share = spam / (spam + ham * ratio)
        belief = (strength * 0.5 + seen * share) / (strength + seen)
        if abs(belief - 0.5) < calibration.INDIFFERENT:
            continue
        odds = log(belief / (1 - belief))
        total += features * odds * abs(odds)
        weight_of_all += features * abs(odds)
    return total / weight_of_all


def _by_counts(
    group: Iterable[int], server: Counts, own: Counts | None, weight: int
) -> Mapping[tuple[int, int], int]:
    """Return how many features were in so many ham and spam messages; few numbers are frequent."""
    hams, spams = _of_each(group, server)
    if own is not None:
        own_hams, own_spams = _of_each(group, own)
        hams = (ham + more * weight for ham, more in zip(hams, own_hams, strict=True))
        spams = (spam + more * weight for spam, more in zip(spams, own_spams, strict=True))
    return Counter(zip(hams, spams, strict=True))


def _of_each(group: Iterable[int], counts: Counts) -> tuple[Iterator[int], Iterator[int]]:
    """Return in how many ham and spam messages each feature was."""
    mask = (1 << counts.bits) - 1
    places = [feature & mask for feature in group]
    return map(counts.ham.__getitem__, places), map(counts.spam.__getitem__, places)


def margin(means: Iterable[float]) -> float:
    """Weigh the groups: positive speaks for spam."""
    weighed = zip(calibration.WEIGHTS, means, strict=True)
    return calibration.BIAS + sum(weight * mean for weight, mean in weighed)


def probability(value: float) -> float:
    """Return how likely a message with that margin is spam, where half of all mail is."""
    return 1 / (1 + exp(-max(min(value, 30.0), -30.0)))
