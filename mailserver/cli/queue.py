"""`queue`: the mail that waits to leave, and what became of it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from mailserver.app.access import Access
from mailserver.app.exits import Exit
from mailserver.cli import queue_route
from mailserver.cli.ages import parse_age
from mailserver.cli.target import (
    ConfigFile,
    DataDir,
    Json,
    failing,
    run,
    show_done,
    show_json,
    show_rows,
)
from mailserver.errors import Invalid, NotFound
from mailserver.mail import queueing
from mailserver.mail.queueing import Action, Entry, Filter
from mailserver.model import IdKind, QueueState, id_text, id_value

commands = typer.Typer(help="The mail that waits to leave.", no_args_is_help=True)
commands.add_typer(queue_route.commands, name="route")

Ids = Annotated[list[str] | None, typer.Argument(help="Messages, as `queue list` shows them.")]
State = Annotated[
    list[str] | None,
    typer.Option(help="waiting, sending, held, caught, delivered or failed; may be repeated."),
]
Domain = Annotated[str | None, typer.Option(help="Recipients of this domain.")]
Sender = Annotated[str | None, typer.Option("--from", help="Messages of this sender, <> for none.")]
To = Annotated[str | None, typer.Option("--to", help="This recipient.")]
Older = Annotated[str | None, typer.Option(help="Received longer ago than 30m, 12h or 2d.")]
Everything = Annotated[bool, typer.Option("--all", help="Everything: needed without a filter.")]

_UNFINISHED = [QueueState.WAITING, QueueState.SENDING, QueueState.HELD, QueueState.CAUGHT]
_APPLIES = {
    Action.RETRY: [QueueState.WAITING, QueueState.HELD],
    Action.HOLD: [QueueState.WAITING],
    Action.RELEASE: [QueueState.HELD],
    Action.FAIL: [QueueState.WAITING, QueueState.HELD, QueueState.CAUGHT],
    Action.DROP: [QueueState.WAITING, QueueState.HELD, QueueState.CAUGHT],
}
_DONE = {
    Action.RETRY: "tried now",
    Action.HOLD: "held",
    Action.RELEASE: "released",
    Action.FAIL: "given up",
    Action.DROP: "dropped",
}


@commands.command("list")
def list_all(
    state: State = None,
    domain: Domain = None,
    sender: Sender = None,
    to: To = None,
    older: Older = None,
    limit: Annotated[int, typer.Option(help="Recipients shown at most.")] = 1000,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List recipients, oldest message first; without --state those that are not finished."""
    with failing(json):
        states = _states(state) or _UNFINISHED
        wanted = _filter(None, states, domain, sender, to, older)

    async def work(store: Access) -> list[Entry]:
        return [entry async for entry in queueing.found(store.mail, wanted, limit)]

    entries = run(work, data_dir=data_dir, config=config, json=json)
    show_rows([_row(entry) if json else _line(entry) for entry in entries], json)


@commands.command()
def show(
    message: Annotated[str, typer.Argument(help="A message, as `queue list` shows it.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show a message and what was said about each of its recipients last."""
    with failing(json):
        wanted = _filter([message], None, None, None, None, None)

    async def work(store: Access) -> list[Entry]:
        entries = [entry async for entry in queueing.found(store.mail, wanted)]
        if not entries:
            raise NotFound(f"no message {message} is in the queue")
        return entries

    entries = run(work, data_dir=data_dir, config=config, json=json)
    if json:
        show_json([_row(entry) for entry in entries])
        return
    first = entries[0]
    typer.echo(f"message   {id_text(IdKind.QUEUE, first.message_id)}")
    typer.echo(f"from      <{first.sender}>")
    typer.echo(f"received  {first.received_at:%Y-%m-%d %H:%M:%S} UTC, session {first.session}")
    typer.echo(f"size      {first.size} bytes")
    for entry in entries:
        typer.echo(f"\n<{entry.recipient}>")
        for line in in_words(entry, datetime.now(UTC)):
            typer.echo(f"  {line}")


def in_words(entry: Entry, now: datetime) -> list[str]:
    """Say where the delivery to a recipient stands, in sentences."""
    said = f"{entry.remote} said: {entry.last_reply}" if entry.remote else entry.last_reply or ""
    tries = f"{entry.attempts} attempt{'' if entry.attempts == 1 else 's'}"
    last = f", the last one {_ago(now, entry.last_attempt)} ago" if entry.last_attempt else ""
    if entry.state is QueueState.WAITING:
        when = _in(now, entry.next_attempt)
        lines = [
            f"Waits: {tries}{last}; the next one is {when}.",
            f"It is given up {_in(now, entry.expires_at)}.",
        ]
    else:
        lines = [
            {
                QueueState.DELIVERED: f"Delivered with {tries}{last}.",
                QueueState.FAILED: f"Failed after {tries}{last}.",
                QueueState.HELD: f"Held: {tries}{last}; nothing happens until it is released.",
                QueueState.CAUGHT: "Caught: this server sends nothing to others.",
                QueueState.SENDING: f"Being sent: attempt {entry.attempts}{last}.",
            }[entry.state]
        ]
    return lines + ([said] if said else [])


def _command(action: Action, text: str) -> None:
    """Add the command of an action: all of them take the same filters."""

    def command(
        ids: Ids = None,
        state: State = None,
        domain: Domain = None,
        sender: Sender = None,
        to: To = None,
        older: Older = None,
        everything: Everything = False,
        data_dir: DataDir = None,
        config: ConfigFile = None,
        json: Json = False,
    ) -> None:
        if not (everything or any((ids, state, domain, sender, to, older))):
            typer.echo("mailserver: say which: messages, a filter, or --all", err=True)
            raise typer.Exit(Exit.USAGE)
        with failing(json):
            states = _states(state) or _APPLIES[action]
            wanted = _filter(ids, states, domain, sender, to, older)

        async def work(store: Access) -> int:
            return await queueing.act(store.mail, action, wanted)

        count = run(work, data_dir=data_dir, config=config, json=json)
        plural = "" if count == 1 else "s"
        show_done(json, f"{count} recipient{plural} {_DONE[action]}", recipients=count)

    command.__doc__ = text
    commands.command(action.value)(command)


_command(Action.RETRY, "Try recipients now; what is held is released.")
_command(Action.HOLD, "Keep recipients from being tried until they are released.")
_command(Action.RELEASE, "Let recipients that are held be tried.")
_command(Action.FAIL, "Give recipients up; their senders get a report.")
_command(Action.DROP, "Forget recipients; their senders hear nothing.")


def _states(names: list[str] | None) -> list[QueueState]:
    try:
        return [QueueState[name.upper()] for name in names or []]
    except KeyError as error:
        known = ", ".join(state.name.lower() for state in QueueState)
        raise Invalid(f"no state {error.args[0].lower()}: it is one of {known}") from None


def _filter(
    ids: list[str] | None,
    states: list[QueueState] | None,
    domain: str | None,
    sender: str | None,
    to: str | None,
    older: str | None,
) -> Filter:
    numbers = []
    for text in ids or []:
        number = id_value(IdKind.QUEUE, text)
        if number is None:
            raise Invalid(f"{text} is no id of a message in the queue")
        numbers.append(number)
    return Filter(
        numbers or None,
        [int(state) for state in states] if states else None,
        domain.lower() if domain else None,
        "" if sender == "<>" else sender,
        to,
        datetime.now(UTC) - parse_age(older) if older else None,
    )


def _row(entry: Entry) -> dict[str, object]:
    return {
        "message": id_text(IdKind.QUEUE, entry.message_id),
        "recipient": entry.recipient,
        "state": entry.state.name.lower(),
        "from": entry.sender,
        "size": entry.size,
        "received_at": entry.received_at,
        "attempts": entry.attempts,
        "last_attempt": entry.last_attempt,
        "next_attempt": entry.next_attempt if entry.state is QueueState.WAITING else None,
        "expires_at": entry.expires_at,
        "reply": entry.last_reply,
        "status": entry.status,
        "remote": entry.remote,
        "notify": entry.notify,
        "orcpt": entry.orcpt,
        "session": entry.session,
    }


def _line(entry: Entry) -> dict[str, object]:
    now = datetime.now(UTC)
    waits = entry.state is QueueState.WAITING
    return {
        "message": id_text(IdKind.QUEUE, entry.message_id),
        "state": entry.state.name.lower(),
        "age": _ago(now, entry.received_at),
        "from": entry.sender or "<>",
        "to": entry.recipient,
        "attempts": entry.attempts,
        "next": _in(now, entry.next_attempt) if waits else "",
        "reply": entry.last_reply or "",
    }


def _ago(now: datetime, moment: datetime | None) -> str:
    return "" if moment is None else _span(now - moment)


def _in(now: datetime, moment: datetime) -> str:
    return "due now" if moment <= now else f"in {_span(moment - now)}"


def _span(span: timedelta) -> str:
    seconds = max(int(span.total_seconds()), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
