"""The figures of the classifier, found by cross-validation (`benchmarks/content.py`)."""

from bisect import bisect_right

STRENGTH = 0.05  # how many messages a feature must have been in to be believed about half
INDIFFERENT = 0.1  # features nearer than this to even odds are left out
DAMPING = 2.0  # of even odds, that each group is averaged with

# What the mean of each group weighs: form, people, way, links, fields, subject, words, pairs.
WEIGHTS = (0.18, 0.36, 0.26, 0.3, 0.58, 0.35, 1.15, 0.89)
BIAS = 4.61

# Margins and the scores they give; between them, scores lie on straight lines.
_POINTS = ((-9.0, -4.0), (-0.4, -3.0), (2.6, 5.0), (7.6, 7.5))

MINIMUM_EACH = 30  # lessons of spam and of other mail from which on the classifier speaks
TRUSTED = 300  # lessons of each from which on its scores count in full, before that in part
MINIMUM = 5  # lessons of an account from which on they count
OWN_WEIGHT = 8  # lessons of the server that one of the account's own counts as


def score(margin: float) -> float:
    """Return the score that a margin of the classifier gives."""
    at = bisect_right(_POINTS, (margin, 0.0))
    if at == 0:
        return _POINTS[0][1]
    if at == len(_POINTS):
        return _POINTS[-1][1]
    (left, low), (right, high) = _POINTS[at - 1], _POINTS[at]
    return round(low + (high - low) * (margin - left) / (right - left), 2)
