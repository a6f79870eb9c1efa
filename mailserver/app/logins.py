"""The development accounts: their passwords are made once and kept for the person who tries."""

from pathlib import Path
from typing import TypedDict

import orjson

from mailserver.app.presence import write_private
from mailserver.app.secret import make_password

DOMAIN = "example.test"
LOGINS = (f"alice@{DOMAIN}", f"bob@{DOMAIN}")
ACCOUNTS = "accounts.json"


class Login(TypedDict):
    """One account of the development server."""

    login: str
    password: str


def known(directory: Path) -> list[Login]:
    """Return those of a data directory, none before they were made."""
    try:
        logins: list[Login] = orjson.loads((directory / ACCOUNTS).read_bytes())
    except FileNotFoundError:
        return []
    return logins


def choose(directory: Path) -> list[Login]:
    """Return those of a data directory; choose their passwords when there are none."""
    logins = known(directory)
    if not logins:
        logins = [Login(login=login, password=make_password()) for login in LOGINS]
        write_private(directory / ACCOUNTS, orjson.dumps(logins, option=orjson.OPT_INDENT_2))
    return logins
