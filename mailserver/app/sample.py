"""Make the development accounts."""

from pathlib import Path

from mailserver.app import logins
from mailserver.app.server import Prepare
from mailserver.errors import AlreadyExists
from mailserver.mail import accounts
from mailserver.mail.context import Mail


def preparation(directory: Path) -> Prepare:
    """Return what makes the domain and the accounts of a data directory, unless they are there."""

    async def prepare(mail: Mail) -> None:
        chosen = logins.choose(directory)
        if logins.DOMAIN not in await accounts.list_domains(mail):
            await accounts.add_domain(mail, logins.DOMAIN)
        existing = {account.login for account in await accounts.list_all(mail)}
        for entry in chosen:
            if entry["login"] in existing:
                continue
            name = entry["login"].split("@", 1)[0].title()
            try:
                await accounts.create(mail, entry["login"], name=name, password=entry["password"])
            except AlreadyExists:
                continue  # made by a command since we looked

    return prepare
