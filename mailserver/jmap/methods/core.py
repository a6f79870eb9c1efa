"""Core/echo (RFC 8620 §4)."""

from typing import Any

from mailserver.jmap.session import Session


async def echo(session: Session, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments as they came (RFC 8620 §4)."""
    return arguments
