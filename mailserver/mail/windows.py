"""Stretches of results (RFC 8620 §5.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from mailserver.errors import NotFound
from mailserver.mail.criteria import Window
from mailserver.model import EmailId, Modseq


class AnchorNotFound(NotFound):
    """The anchor of a window is not in the result (RFC 8620 §5.5)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a result."""

    modseq: Modseq  # the state of the account that it shows
    ids: list[EmailId]
    position: int  # of the first id in the whole result
    total: int | None  # of the whole result; None when nobody asked


def start_of(ids: Sequence[int], window: Window) -> int:
    """Return where the wanted stretch starts (RFC 8620 §5.5)."""
    if window.anchor is not None:
        if window.anchor not in ids:
            raise AnchorNotFound("anchor")
        return max(0, ids.index(window.anchor) + window.anchor_offset)
    if window.position < 0:
        return max(0, len(ids) + window.position)
    return window.position
