"""`mailserver spam`: whom the server, a domain or a user wants to hear of."""

from typing import Annotated

import typer

from mailserver.address import normal_domain, parse_address
from mailserver.antispam.lists import ALLOW, DENY, SERVER, TO, subject_of
from mailserver.app.access import Access
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_done, show_rows
from mailserver.errors import Invalid, NotFound
from mailserver.events import QUEUE
from mailserver.mail import accounts
from mailserver.model import IdKind, Modseq, id_text
from mailserver.storage import sending, spam_lists
from mailserver.storage.sending import Held
from mailserver.storage.spam_lists import Entry

commands = typer.Typer(help="Whose mail is wanted, and whose is not.", no_args_is_help=True)

Subject = Annotated[
    str,
    typer.Argument(
        metavar="WHO", help="An address, a domain with all below it, an IP address or a network."
    ),
]
User = Annotated[str | None, typer.Option("--user", metavar="LOGIN", help="For this user only.")]
Domain = Annotated[str | None, typer.Option(help="For users of this domain only.")]
To = Annotated[bool, typer.Option("--to", help="WHO is an address here that takes no mail.")]


@commands.command()
def allow(
    who: Subject,
    user: User = None,
    domain: Domain = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let mail of somebody into the INBOX, whatever its score, when DMARC says it is from there."""
    _put(ALLOW, who, user, domain, False, data_dir, config, json)


@commands.command()
def deny(
    who: Subject,
    user: User = None,
    domain: Domain = None,
    to: To = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Refuse mail of somebody; with --to, mail to an address here that others abuse."""
    _put(DENY, who, user, domain, to, data_dir, config, json)


@commands.command()
def remove(
    who: Subject,
    user: User = None,
    domain: Domain = None,
    to: To = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Take somebody out of a list."""
    with failing(json):
        subject = _subject(who, user, domain, to)

    async def work(store: Access) -> None:
        scope = await _scope(store, user, domain)
        if not await spam_lists.remove(store.database, scope, subject):
            raise NotFound(f"{who} is not in the list")

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{subject} is in the list no more", subject=subject)


@commands.command("list")
def list_all(
    user: User = None,
    domain: Domain = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show a list: that of the server and its domains, or of a user or one domain."""

    async def work(store: Access) -> list[Entry]:
        if user is None and domain is None:
            return await spam_lists.of_server(store.database)
        return await spam_lists.of_scope(store.database, await _scope(store, user, domain))

    entries = run(work, data_dir=data_dir, config=config, json=json)
    whose = user or "the server"
    show_rows(
        [
            {
                "whose": entry.scope if entry.scope.startswith("@") else whose,
                "action": entry.action,
                "who": entry.subject,
            }
            for entry in entries
        ],
        json,
    )


@commands.command("held")
def show_held(data_dir: DataDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """Show the accounts that may not send, because they sent like stolen ones."""

    async def work(store: Access) -> list[Held]:
        return await sending.held(store.database)

    rows = run(work, data_dir=data_dir, config=config, json=json)
    show_rows(
        [{"account": row.login, "since": row.held_at, "reason": row.reason} for row in rows], json
    )


@commands.command()
def release(
    login: Annotated[str, typer.Argument(metavar="LOGIN", help="The account.")],
    keep_queue: Annotated[
        bool, typer.Option("--keep-queue", help="What it has in the queue stays held.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Let an account send again, and what was held of it leave."""

    async def work(store: Access) -> None:
        account = await accounts.find(store.mail, login)
        async with store.database.transaction() as tx:
            now = store.mail.now()
            released = await sending.release(tx, account.id, now, queued=not keep_queue)
        if not released:
            raise NotFound(f"{login} is not held")
        store.mail.events.publish(QUEUE, Modseq(store.mail.ids.next()))

    run(work, data_dir=data_dir, config=config, json=json)
    show_done(json, f"{login} may send again", account=login)


def _put(
    action: str,
    who: str,
    user: str | None,
    domain: str | None,
    to: bool,
    data_dir: DataDir,
    config: ConfigFile,
    json: bool,
) -> None:
    with failing(json):
        subject = _subject(who, user, domain, to)

    async def work(store: Access) -> None:
        entry = Entry(await _scope(store, user, domain), subject, action)
        await spam_lists.put(store.database, entry, store.mail.now())

    run(work, data_dir=data_dir, config=config, json=json)
    word = "allowed" if action == ALLOW else "denied"
    show_done(json, f"{subject} is {word}", subject=subject, action=action)


def _subject(who: str, user: str | None, domain: str | None, to: bool) -> str:
    """Return what a line is about; Invalid when such a line cannot be in such a list."""
    if user is not None and domain is not None:
        raise Invalid("a list is that of a user or of a domain")
    if to:
        if user is not None:
            raise Invalid("--to is for the server or a domain")
        return f"{TO}{parse_address(who)}"
    subject = subject_of(who)
    if "@" not in subject and (user is not None or domain is not None):
        raise Invalid("IP addresses and networks are for the server as a whole")
    return subject


async def _scope(store: Access, user: str | None, domain: str | None) -> str:
    if user is not None:
        return id_text(IdKind.ACCOUNT, (await accounts.find(store.mail, user)).id)
    if domain is not None:
        name = normal_domain(domain)
        if name not in await accounts.list_domains(store.mail):
            raise NotFound(f"there is no domain {name}")
        return f"@{name}"
    return SERVER
