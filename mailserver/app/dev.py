"""`mailserver dev`: the whole server on this machine, for trying and for tests."""

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import orjson

from mailserver import log as logs
from mailserver import tls
from mailserver.app import store
from mailserver.app.backends import Embedded
from mailserver.app.background import shielded
from mailserver.app.presence import Presence, write_private
from mailserver.app.secret import make_password, with_key
from mailserver.app.server import Server
from mailserver.config_file import Loaded, load
from mailserver.errors import AlreadyExists
from mailserver.mail import accounts
from mailserver.mail.context import Mail

log = logging.getLogger(__name__)

DOMAIN = "example.test"
LOGINS = (f"alice@{DOMAIN}", f"bob@{DOMAIN}")
ACCOUNTS = "accounts.json"
LISTENERS = ("smtp", "submission", "submissions", "imap", "imaps", "http", "https")


class Login(TypedDict):
    """One account of the development server."""

    login: str
    password: str


async def dev(directory: Path, *, free_ports: bool, environment: Mapping[str, str]) -> None:
    """Serve below `directory` until cancelled."""
    presence = Presence(directory)
    await presence.claim()
    try:
        certificates = tls.make_development_ca(
            directory / "tls", tls.DEVELOPMENT_NAMES, store.now()
        )
        loaded = configuration(directory, certificates, free_ports, environment)
        logs.configure(loaded.config.log.format, loaded.config.log.level)
        embedded = Embedded(directory)
        await embedded.start()
        try:
            await _run(loaded, embedded, presence, certificates.ca)
        finally:
            await asyncio.shield(shielded(embedded.stop(), 60, "embedded services"))
    finally:
        presence.release()


def configuration(
    directory: Path,
    certificates: tls.DevelopmentFiles,
    free_ports: bool,
    environment: Mapping[str, str],
) -> Loaded:
    """Return the configuration of the development server; the environment may change it."""
    base: dict[str, object] = {
        "embedded.enabled": True,
        "embedded.data_dir": directory,
        "tls.certificate": certificates.certificate,
        "tls.key": certificates.key,
        "smtp.catch_outbound": True,
        "log.format": "text",
    }
    if free_ports:
        base |= {f"listeners.{name}.port": 0 for name in LISTENERS}
    return load(environment=environment, base=base)


async def _run(loaded: Loaded, embedded: Embedded, presence: Presence, ca: Path) -> None:
    server = Server(with_key(loaded.config, presence.directory), embedded.backends())
    try:
        await server.start(prepare=lambda mail: _prepare(mail, presence.directory))
        presence.publish(document(server, embedded, _known(presence.directory), ca))
        await _welcome(presence.directory)
        await asyncio.Event().wait()
    finally:
        presence.withdraw()
        await asyncio.shield(server.stop())


def document(
    server: Server, embedded: Embedded, logins: list[Login], ca: Path | None
) -> dict[str, Any]:
    """Return what `dev.json` says: everything that a client or a test needs."""
    bucket = embedded.backends().bucket()
    listeners = {name: server.listeners[name] for name in LISTENERS if name in server.listeners}
    host, port = listeners.get("http", (None, None))
    return {
        "pid": os.getpid(),
        "listeners": listeners,
        "accounts": logins,
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


async def _prepare(mail: Mail, directory: Path) -> None:
    """Make the domain and the accounts with passwords that are made once and kept."""
    logins = _known(directory)
    if not logins:
        logins = [Login(login=login, password=make_password()) for login in LOGINS]
        write_private(directory / ACCOUNTS, orjson.dumps(logins, option=orjson.OPT_INDENT_2))
    if DOMAIN not in await accounts.list_domains(mail):
        await accounts.add_domain(mail, DOMAIN)
    existing = {account.login for account in await accounts.list_all(mail)}
    for entry in logins:
        if entry["login"] in existing:
            continue
        name = entry["login"].split("@", 1)[0].title()
        try:
            await accounts.create(mail, entry["login"], name=name, password=entry["password"])
        except AlreadyExists:
            continue  # made by a command since we looked


def _known(directory: Path) -> list[Login]:
    try:
        logins: list[Login] = orjson.loads((directory / ACCOUNTS).read_bytes())
    except FileNotFoundError:
        return []
    return logins


async def _welcome(directory: Path) -> None:
    """Print what is where; by a child, so that the server never loads what draws tables."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "mailserver.cli.welcome", str(directory)),
        start_new_session=True,  # Ctrl-C is for us
    )
    code = await child.wait()
    if code != 0:
        log.warning("the welcome was not printed", extra={"code": code})
