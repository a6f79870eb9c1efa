"""The steps of a stop: none of them may keep the others."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable

from mailserver.errors import MailError

log = logging.getLogger(__name__)


async def shielded(awaitable: Awaitable[object], seconds: float, what: str) -> None:
    """Wait for one step of a stop; a step that takes too long or fails does not keep the others."""
    try:
        async with asyncio.timeout(seconds):
            await awaitable
    except TimeoutError:
        log.warning("stop takes too long", extra={"part": what, "seconds": seconds})
    except MailError as error:  # what it left is not kept: counts, what was learned a moment ago
        log.warning("stop failed", extra={"part": what, "error": str(error)})
    except Exception:
        with contextlib.suppress(Exception):
            log.exception("stop failed", extra={"part": what})
