"""What a message or a command goes through, as spans of a trace (OpenTelemetry).

Nothing here knows where spans go: without `tracing.endpoint` there are none, and one costs a call.
Attributes are words and numbers that the log has too: ids, sizes, outcomes, never a text of mail.
"""

from types import TracebackType
from typing import Literal

Value = str | int | float | bool
Kind = Literal["internal", "server", "client", "consumer"]


class Span:
    """A part of the work, for the block of a with statement; this one is not told to anybody."""

    __slots__ = ()

    def note(self, **attributes: Value) -> None:
        """Say something about it that is known only now."""

    def fail(self, reason: str) -> None:
        """Say that it did not work; an exception that leaves the block says so by itself."""

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


_UNTOLD = Span()


class Tracing:
    """Makes the spans of a process; this one makes none."""

    def span(
        self, name: str, *, kind: Kind = "internal", parent: str | None = None, **attributes: Value
    ) -> Span:
        """Return a span inside the current one, or inside the one that `parent` names."""
        return _UNTOLD

    def parent(self) -> str | None:
        """Return the current span as W3C Trace Context writes it, for work that is done later."""
        return None

    def close(self) -> None:
        """Tell what was not told yet; blocks for some seconds at most."""


UNTRACED = Tracing()
