"""`mailserver serve`: the server as the configuration says."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from mailserver import log as logs
from mailserver.app.backends import Embedded
from mailserver.app.dev import document
from mailserver.app.node import Node
from mailserver.app.presence import Presence
from mailserver.app.secret import with_key
from mailserver.app.shield import shielded
from mailserver.config import Config
from mailserver.config_file import load, problems_for_service
from mailserver.errors import ConfigurationError

log = logging.getLogger(__name__)


async def serve(file: Path | None, environment: Mapping[str, str]) -> None:
    """Serve until cancelled."""

    def read() -> Config:
        config = load(file, environment).config
        problems = problems_for_service(config)
        if problems:
            raise ConfigurationError("\n".join(problems))
        return config

    config = read()
    logs.configure(config.log.format, config.log.level)
    if config.embedded.enabled:
        await _serve_embedded(config, read)
    else:
        await _run(Node(read))


async def _serve_embedded(config: Config, read: Callable[[], Config]) -> None:
    presence = Presence(config.embedded.data_dir.absolute())
    await presence.claim()
    try:
        embedded = Embedded(presence.directory)
        await embedded.start()
        try:
            node = Node(lambda: with_key(read(), presence.directory), embedded)
            await _run(node, embedded, presence)
        finally:
            await asyncio.shield(shielded(embedded.stop(), 60, "embedded services"))
    finally:
        presence.release()


async def _run(
    node: Node, embedded: Embedded | None = None, presence: Presence | None = None
) -> None:
    try:
        await node.start()
        if embedded is not None and presence is not None:
            presence.publish(document(node, embedded, [], None))
        log.info("serving", extra={"listeners": node.addresses})
        await asyncio.Event().wait()
    finally:
        if presence is not None:
            presence.withdraw()
        await asyncio.shield(node.stop())
