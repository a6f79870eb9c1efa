"""Identity/get, /changes and /set (RFC 8621 §6): the addresses that the account sends from."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mailserver import errors
from mailserver.jmap.methods.changes import Changes, of_records
from mailserver.jmap.methods.get import Get, got, wanted
from mailserver.jmap.methods.set import Json, Records, Set, run, set_error
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.addresses import addresses
from mailserver.jmap.protocol.errors import SetError, invalid_properties
from mailserver.jmap.protocol.properties import boolean, nullable, short_text, text
from mailserver.jmap.protocol.records import Property, Settable, server_set
from mailserver.jmap.session import Session
from mailserver.mail import identities
from mailserver.mail.context import Change
from mailserver.model import (
    IDENTITY_KINDS,
    EmailAddress,
    Identity,
    IdentityId,
    IdKind,
    id_text,
    id_value,
)

MAX_NAME = 1000  # characters
MAX_SIGNATURE = 100_000


TABLE = {
    "id": server_set(text),
    "name": Property(short_text(MAX_NAME), ""),
    "email": Property(text, settable=Settable.AT_CREATION),
    "replyTo": Property(nullable(addresses), None),
    "bcc": Property(nullable(addresses), None),
    "textSignature": Property(short_text(MAX_SIGNATURE), ""),
    "htmlSignature": Property(short_text(MAX_SIGNATURE), ""),
    "mayDelete": server_set(boolean),
}
_FIELDS = {
    "name": "name",
    "replyTo": "reply_to",
    "bcc": "bcc",
    "textSignature": "text_signature",
    "htmlSignature": "html_signature",
}


def _shown(value: tuple[EmailAddress, ...] | None) -> list[Json] | None:
    if value is None:
        return None
    return [{"name": each.name, "email": each.email} for each in value]


_SHOWN: dict[str, Callable[[Identity], Any]] = {
    "id": lambda identity: identity_text(identity.id),
    "name": lambda identity: identity.name,
    "email": lambda identity: identity.email,
    "replyTo": lambda identity: _shown(identity.reply_to),
    "bcc": lambda identity: _shown(identity.bcc),
    "textSignature": lambda identity: identity.text_signature,
    "htmlSignature": lambda identity: identity.html_signature,
    "mayDelete": lambda identity: not identity.standard,
}


def identity_text(value: int) -> str:
    """Show the id of an identity."""
    return id_text(IdKind.IDENTITY, value)


def _json(identity: Identity) -> Json:
    return {name: show(identity) for name, show in _SHOWN.items()}


async def get(session: Session, asked: Get) -> dict[str, object]:
    """Return identities, those that came with addresses of the account first (RFC 8621 §6.1)."""
    shown = properties.check_properties(asked.properties, _SHOWN)
    ids = None if asked.ids is None else wanted(session, IdKind.IDENTITY, asked.ids)
    await session.state()  # before the data: it may be older than they are, never newer
    everything = await identities.list_all(session.mail, session.account)
    found: dict[int, object] = {
        each.id: {name: show(each) for name, show in _SHOWN.items() if name in shown}
        for each in everything
    }
    return await got(session, ids, found)


async def get_changes(session: Session, asked: Changes) -> dict[str, object]:
    """Return which identities changed since a state (RFC 8621 §6.2)."""

    async def existing(_: Collection[int]) -> Collection[int]:
        return {each.id for each in await identities.list_all(session.mail, session.account)}

    return await of_records(session, asked, IDENTITY_KINDS, existing, identity_text)


async def set_identities(session: Session, asked: Set) -> Json:
    """Create, change and destroy identities (RFC 8621 §6.3)."""
    return await run(session, asked, IdentityRecords(session))


class IdentityRecords(Records):
    """Identities while a /set works on them."""

    table = TABLE

    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Add identities."""
        results: dict[str, Json | SetError] = {}
        mail = self.session.mail
        async with mail.change(self.session.account) as change:
            for each, values in new.items():
                fields = {to: values[name] for name, to in _FIELDS.items()}
                wish = Identity(IdentityId(0), email=values["email"], standard=False, **fields)
                try:
                    results[each] = _json(await identities.create(change, mail, wish))
                except errors.Forbidden as error:
                    results[each] = SetError("forbiddenFrom", str(error))
                except errors.Invalid:
                    results[each] = invalid_properties(["email"], "email is not an address")
                except errors.MailError as error:
                    results[each] = set_error(error)
        self._note(change)
        return results

    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Return identities as /get shows them."""
        everything = await identities.list_all(self.session.mail, self.session.account)
        by_text = {identity_text(each.id): each for each in everything}
        return {each: _json(by_text[each]) for each in ids if each in by_text}

    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Give identities other names, signatures and so on."""
        results: dict[str, Json | SetError | None] = {}
        async with self.session.mail.change(self.session.account) as change:
            there = await identities.locked(change)
            for each, values in changes.items():
                identity = there.get(_number(each))
                if identity is None:
                    results[each] = SetError("notFound")
                    continue
                fields = {_FIELDS[name]: value for name, value in values.items()}
                await identities.update(change, replace(identity, **fields))
                results[each] = None
        self._note(change)
        return results

    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Remove identities, but for those that came with an address."""
        results: dict[str, SetError | None] = {}
        async with self.session.mail.change(self.session.account) as change:
            there = await identities.locked(change)
            for each in ids:
                identity = there.get(_number(each))
                if identity is None:
                    results[each] = SetError("notFound")
                    continue
                try:
                    await identities.destroy(change, identity)
                    results[each] = None
                except errors.MailError as error:
                    results[each] = set_error(error)
        self._note(change)
        return results

    def _note(self, change: Change) -> None:
        if change.entries:
            self.modseqs.add(change.modseq)


def _number(text: str) -> IdentityId:
    return IdentityId(id_value(IdKind.IDENTITY, text) or 0)
