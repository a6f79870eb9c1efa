"""`mailserver serve`: the server as the configuration says."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from mailserver import log as logs
from mailserver.app.backends import Embedded, external
from mailserver.app.background import shielded
from mailserver.app.dev import document
from mailserver.app.presence import Presence
from mailserver.app.secret import with_key
from mailserver.app.server import Server
from mailserver.config import Config
from mailserver.config_file import load, problems_for_service
from mailserver.errors import ConfigurationError

log = logging.getLogger(__name__)


async def serve(file: Path | None, environment: Mapping[str, str]) -> None:
    """Serve until cancelled."""
    config = load(file, environment).config
    problems = problems_for_service(config)
    if problems:
        raise ConfigurationError("\n".join(problems))
    logs.configure(config.log.format, config.log.level)
    if config.embedded.enabled:
        await _serve_embedded(config)
    else:
        await _run(Server(config, external(config)))


async def _serve_embedded(config: Config) -> None:
    presence = Presence(config.embedded.data_dir.absolute())
    await presence.claim()
    try:
        embedded = Embedded(presence.directory)
        await embedded.start()
        try:
            keyed = with_key(config, presence.directory)
            await _run(Server(keyed, embedded.backends()), embedded, presence)
        finally:
            await asyncio.shield(shielded(embedded.stop(), 60, "embedded services"))
    finally:
        presence.release()


async def _run(
    server: Server, embedded: Embedded | None = None, presence: Presence | None = None
) -> None:
    try:
        await server.start()
        if embedded is not None and presence is not None:
            presence.publish(document(server, embedded, [], None))
        log.info("serving", extra={"listeners": server.listeners})
        await asyncio.Event().wait()
    finally:
        if presence is not None:
            presence.withdraw()
        await asyncio.shield(server.stop())
