"""Email/copy (RFC 8621 §4.7): emails of another account become emails of this one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mailserver.jmap.methods.email_create import Arriving, Places, Stores
from mailserver.jmap.methods.email_import import creations, utc_date
from mailserver.jmap.methods.set import Json, check_state
from mailserver.jmap.protocol import properties, records
from mailserver.jmap.protocol.errors import MethodError, SetError, invalid_arguments
from mailserver.jmap.protocol.keywords import keywords, mailbox_ids
from mailserver.jmap.protocol.properties import boolean, nullable, optional, required, text
from mailserver.jmap.protocol.records import Property
from mailserver.jmap.session import AccountView, Session
from mailserver.mail import content, messages, search
from mailserver.mail.search import Place
from mailserver.model import EmailId, Flags, IdKind, id_value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TABLE = {
    "id": Property(text, refers=True),
    "mailboxIds": Property(mailbox_ids, refers=True),
    "keywords": Property(nullable(keywords), None),
    "receivedAt": Property(nullable(utc_date), None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The arguments of Email/copy (RFC 8620 §5.4)."""

    from_account_id: str = required("fromAccountId", text)
    if_from_in_state: str | None = optional("ifFromInState", nullable(text), None)
    account_id: str = required("accountId", text)
    if_in_state: str | None = optional("ifInState", nullable(text), None)
    create: dict[str, Json] = required("create", properties.objects)
    destroy_original: bool = optional("onSuccessDestroyOriginal", boolean, False)
    destroy_from_if_in_state: str | None = optional("destroyFromIfInState", nullable(text), None)


async def copy_emails(session: Session, asked: Copy) -> Json:
    """Store the messages of another account's emails here, too."""
    if asked.from_account_id == asked.account_id:
        raise invalid_arguments("fromAccountId and accountId are the same")
    if len(asked.create) > session.limits.max_objects_in_set:
        raise MethodError("requestTooLarge")
    source = await session.find(asked.from_account_id)
    if source is None:
        raise MethodError("fromAccountNotFound")
    if asked.if_from_in_state is not None:
        modseq = await messages.state(session.mail, source.id)
        check_state(asked.if_from_in_state, source.state_at(modseq))
    old_state = await session.fresh_state()
    check_state(asked.if_in_state, old_state)
    modseqs: set[int] = set()
    async with Stores(session, modseqs) as stores:
        copies = _Copies(session, source, stores)
        await copies.run(asked.create)
    made = [copies.originals[each] for each in copies.made()]
    if made and asked.destroy_original:
        destroy = {"accountId": asked.from_account_id, "destroy": list(dict.fromkeys(made))}
        if asked.destroy_from_if_in_state is not None:
            destroy["ifInState"] = asked.destroy_from_if_in_state
        session.following.append(("Email/set", destroy))
    return {
        "fromAccountId": asked.from_account_id,
        "accountId": session.account_id,
        "oldState": old_state,
        "newState": await session.advanced(modseqs),
        **creations(session, copies.stores.results),
    }


class _Copies:
    """The copies of one call."""

    def __init__(self, session: Session, source: AccountView, stores: Stores) -> None:
        self._session = session
        self._source = source
        self.stores = stores
        self.originals: dict[str, str] = {}  # id of the email, by creation id

    def made(self) -> list[str]:
        """Return the creation ids of the copies that were made."""
        results = self.stores.results
        return [each for each, result in results.items() if not isinstance(result, SetError)]

    async def run(self, create: Mapping[str, Json]) -> None:
        """Make them."""
        places = await Places.of(self._session)
        wanted: dict[str, dict[str, Any]] = {}
        for creation_id, given in create.items():
            try:
                values = records.created(TABLE, given, self._resolve)
                places.check(values["mailboxIds"], values["keywords"] or Flags())
            except SetError as error:
                self.stores.results[creation_id] = error
            else:
                wanted[creation_id] = values
                self.originals[creation_id] = values["id"]
        numbers = {each: id_value(IdKind.EMAIL, values["id"]) for each, values in wanted.items()}
        found = await self._places([each for each in numbers.values() if each is not None])
        for creation_id, values in wanted.items():
            number = numbers[creation_id]
            try:
                await self._copy(creation_id, values, places, number, found.get(number or 0))
            except SetError as error:
                self.stores.results[creation_id] = error

    def _resolve(self, name: str) -> str | None:
        return self._session.created_ids.get(name[1:]) if name.startswith("#") else name

    async def _places(self, ids: list[int]) -> dict[int, Place]:
        if not ids:
            return {}
        found, _ = await search.places(
            self._session.mail,
            self._source.id,
            ids,
            within=self._source.readable,
        )
        return found

    async def _copy(
        self,
        creation_id: str,
        values: dict[str, Any],
        places: Places,
        number: int | None,
        place: Place | None,
    ) -> None:
        if number is None or place is None:
            raise SetError("notFound")
        raws = await content.of_emails(self._session.mail, self._source.id, [number])
        raw = raws.get(EmailId(number))
        if raw is None:
            raise SetError("notFound")
        flags = values["keywords"]
        if flags is None:
            flags = Flags.of_keywords(Flags(place.flags, tuple(place.keywords)).jmap())
            flags = places.allowed(values["mailboxIds"], flags)  # as COPY does, RFC 4314 §4
        received_at = values["receivedAt"] or _EPOCH + timedelta(microseconds=place.received)
        await self.stores.add(creation_id, Arriving(raw, values["mailboxIds"], flags, received_at))
