"""`mailserver dev`: the whole server on this machine, for trying and for tests."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailserver import log as logs
from mailserver import tls
from mailserver.app import certificates, logins
from mailserver.app.backends import Embedded
from mailserver.app.node import Node
from mailserver.app.presence import Presence
from mailserver.app.secret import with_key
from mailserver.app.shield import shielded
from mailserver.config import Config, Limits, Sending
from mailserver.config_file import Loaded, load

log = logging.getLogger(__name__)

LISTENERS = ("smtp", "submission", "submissions", "imap", "imaps", "http", "https")


async def dev(directory: Path, *, free_ports: bool, environment: Mapping[str, str]) -> None:
    """Serve below `directory` until cancelled."""
    presence = Presence(directory)
    await presence.claim()
    try:
        files = await certificates.make(directory / "tls")

        def read() -> Config:
            loaded = configuration(directory, files, free_ports, environment)
            return with_key(loaded.config, directory)

        config = read()
        logs.configure(config.log.format, config.log.level)
        embedded = Embedded(directory)
        await embedded.start()
        try:
            await _run(Node(read, embedded, directory), embedded, presence, files.ca)
        finally:
            await asyncio.shield(shielded(embedded.stop(), 60, "embedded services"))
    finally:
        presence.release()


def configuration(
    directory: Path,
    files: tls.DevelopmentFiles,
    free_ports: bool,
    environment: Mapping[str, str],
) -> Loaded:
    """Return the configuration of the development server; the environment may change it."""
    base: dict[str, object] = {
        "embedded.enabled": True,
        "embedded.data_dir": directory,
        "tls.certificate": files.certificate,
        "tls.key": files.key,
        "server.workers": 1,
        "smtp.catch_outbound": True,
        # who tries it out does not want to come again, and may send as much as they like
        "antispam.greylisting.mode": "off",
        **{f"antispam.limits.{name}": 0 for name in Limits.model_fields},
        **{f"sending.{name}": 0 for name in Sending.model_fields if name != "exempt"},
        "log.format": "text",
    }
    if free_ports:
        base |= {f"listeners.{name}.port": 0 for name in LISTENERS}
    return load(environment=environment, base=base)


async def _run(node: Node, embedded: Embedded, presence: Presence, ca: Path) -> None:
    try:
        await node.start()
        presence.publish(document(node, embedded, logins.known(presence.directory), ca))
        await _welcome(presence.directory)
        await asyncio.Event().wait()
    finally:
        presence.withdraw()
        await asyncio.shield(node.stop())


def document(
    node: Node, embedded: Embedded, accounts: list[logins.Login], ca: Path | None
) -> dict[str, Any]:
    """Return what `dev.json` says: everything that a client or a test needs."""
    bucket = embedded.backends().bucket()
    addresses = node.addresses
    host, port = addresses.get("http", (None, None))
    return {
        "pid": os.getpid(),
        "listeners": addresses,
        "accounts": accounts,
        "ca": None if ca is None else str(ca),
        "jmap_url": f"http://{host}:{port}/.well-known/jmap" if host else None,
        "database_url": embedded.postgres.dsn(),
        "s3": {
            "endpoint": bucket.endpoint,
            "bucket": bucket.bucket,
            "access_key": bucket.access_key,
            "secret_key": bucket.secret_key,
        },
    }


async def _welcome(directory: Path) -> None:
    """Print what is where; by a child, so that the server never loads what draws tables."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "mailserver.cli.welcome", str(directory)),
        start_new_session=True,  # Ctrl-C is for us
    )
    code = await child.wait()
    if code != 0:
        log.warning("the welcome was not printed", extra={"code": code})
