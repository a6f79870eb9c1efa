"""`mailbox`: who may do what with somebody's mailboxes."""

from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.cli.target import ConfigFile, DataDir, Json, run, show_done, show_rows
from mailserver.mail import accounts, mailboxes, rights
from mailserver.model import Grant, RightsChange, rights_text

commands = typer.Typer(help="Who may do what with somebody's mailboxes.", no_args_is_help=True)

Owner = Annotated[str, typer.Argument(metavar="LOGIN", help="Whose mailbox it is.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="INBOX, Projects/2026.")]
Who = Annotated[str, typer.Argument(metavar="WHO", help="A login, or anyone.")]
Negative = Annotated[
    bool, typer.Option("--negative", help="Rights that are taken from what other entries give.")
]


@commands.command()
def share(
    login: Owner,
    name: Name,
    who: Who,
    letters: Annotated[
        str,
        typer.Argument(
            metavar="RIGHTS",
            help="Letters of RFC 4314: lrs to read, lrswite to read, flag, add and remove; "
            "after + they are added to those that are there.",
        ),
    ],
    negative: Negative = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Give somebody rights on a mailbox."""
    how = RightsChange.ADD if letters.startswith("+") else RightsChange.REPLACE

    async def work(store: Access) -> None:
        mail = store.mail
        given = rights.parse(letters.removeprefix("+"))
        identifier = await rights.identify(mail, f"-{who}" if negative else who)
        owner = await accounts.find(mail, login)
        mailbox = await mailboxes.by_path(mail, owner.id, name)
        await rights.modify(mail, owner.id, mailbox.id, identifier, how, given)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{name} of {login} is shared with {who}", login=login, name=name, who=who)


@commands.command()
def unshare(
    login: Owner,
    name: Name,
    who: Who,
    negative: Negative = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Take back what somebody was given."""

    async def work(store: Access) -> None:
        mail = store.mail
        identifier = await rights.identify(mail, f"-{who}" if negative else who)
        owner = await accounts.find(mail, login)
        mailbox = await mailboxes.by_path(mail, owner.id, name)
        await rights.remove(mail, owner.id, mailbox.id, identifier)

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{name} of {login} is not shared with {who}", login=login, name=name, who=who)


@commands.command()
def acl(
    login: Owner,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List who may do what with the mailboxes of an account, where more than the owner may."""

    async def work(store: Access) -> list[tuple[str, Grant]]:
        owner = await accounts.find(store.mail, login)
        return await rights.of_account(store.mail, owner.id)

    show_rows(
        [
            {
                "mailbox": path,
                "who": rights.identifier_text(grant),
                "rights": rights_text(grant.rights),
            }
            for path, grant in run(work, data_dir=data_dir, config=config, json=json)
        ],
        json,
    )
