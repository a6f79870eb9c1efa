"""Email/set (RFC 8621 §4.6)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mailserver import errors
from mailserver.jmap.methods import email
from mailserver.jmap.methods.email_create import Arriving, Places, Stores, composed
from mailserver.jmap.methods.email_patch import Patch, check_unchanged
from mailserver.jmap.methods.set import Json, Records, Set, run, set_error
from mailserver.jmap.protocol.drafts import Draft, read_draft
from mailserver.jmap.protocol.errors import MethodError, SetError, invalid_properties
from mailserver.jmap.protocol.properties import mapping
from mailserver.jmap.protocol.records import Pointer, Property
from mailserver.jmap.session import Session
from mailserver.mail import email_edits
from mailserver.mail.email_edits import Edit, Edited, NoMailbox, TooManyKeywords
from mailserver.model import EmailId, IdKind, id_value

LARGE = 256 * 1024  # octets of JSON; more is read in a thread
TABLE = {"mailboxIds": Property(mapping, refers=True)}


async def set_emails(session: Session, asked: Set) -> Json:
    """Create, change and destroy emails."""
    try:
        return await run(session, asked, EmailRecords(session, asked))
    except email_edits.Overtaken:
        raise MethodError("stateMismatch") from None


class EmailRecords(Records):
    """Emails while a /set works on them."""

    table = TABLE

    def __init__(self, session: Session, asked: Set) -> None:
        super().__init__(session)
        self._conditional = asked.if_in_state is not None

    def _at(self) -> int | None:
        """Return the modseq at which the first change must find the account, if it must."""
        return self.session.modseq if self._conditional and not self.modseqs else None

    def read(self, given: Mapping[str, Any]) -> Json:
        """Leave an Email as it is: reading many takes a while, and is done in `create`."""
        return dict(given)

    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Make messages and store them, several in one commit."""
        places = await Places.of(self.session)
        now = self.session.mail.now()
        async with Stores(self.session, self.modseqs) as stores:
            for each, draft in (await self._drafts(new)).items():
                try:
                    if isinstance(draft, SetError):
                        raise draft
                    places.check(draft.mailboxes, draft.flags)
                    raw = await composed(self.session, draft, now)
                except SetError as error:
                    stores.results[each] = error
                    continue
                received_at = draft.received_at or now
                await stores.add(each, Arriving(raw, draft.mailboxes, draft.flags, received_at))
        return stores.results

    async def _drafts(self, new: Mapping[str, Json]) -> dict[str, Draft | SetError]:
        """Read Emails, whose properties are no closed set: there are those of header fields."""

        def read_all() -> dict[str, Draft | SetError]:
            found: dict[str, Draft | SetError] = {}
            for each, given in new.items():
                try:
                    found[each] = read_draft(given, self.resolve)
                except SetError as error:
                    found[each] = error
            return found

        if len(orjson.dumps(new)) > LARGE:
            return await asyncio.to_thread(read_all)
        return read_all()

    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Not needed: patches are applied where the account is locked."""
        raise NotImplementedError

    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Not needed, likewise."""
        raise NotImplementedError

    async def update(self, patches: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Change keywords and mailboxes, all in one transaction."""
        results: dict[str, Json | SetError | None] = dict.fromkeys(patches)
        edits: dict[EmailId, Edit] = {}
        texts: dict[EmailId, str] = {}
        for each, patch in patches.items():
            number = id_value(IdKind.EMAIL, each)
            if number is None:
                results[each] = SetError("notFound")
                continue
            read = Patch(self.resolve)
            try:
                edit = read.read(patch)
                if read.others:
                    check_unchanged(read.others, await self._shown(each, read.others))
            except SetError as error:
                results[each] = error
                continue
            edits[EmailId(number)], texts[EmailId(number)] = edit, each
        if edits:
            view = self.session.view
            done = await email_edits.edit(
                self.session.mail, view.id, edits, view.rights, at=self._at()
            )
            results.update(self._failures(done, texts))
        return results

    async def _shown(self, text: str, others: Mapping[Pointer, object]) -> dict[str, Any]:
        """Return as /get shows them those properties of an email that a patch names."""
        names = {name for name, *_ in others}
        try:
            asked = email.GetEmail(account_id="", ids=(text,), properties=tuple(names))
            shown = await email.get(self.session, asked)
        except MethodError:
            raise invalid_properties(sorted(names), "an email has no such property") from None
        found = orjson.loads(orjson.dumps(shown["list"]))
        if not found:
            raise SetError("notFound")
        first: dict[str, Any] = found[0]
        return first

    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Remove emails, all in one transaction."""
        results: dict[str, SetError | None] = dict.fromkeys(ids)
        texts: dict[EmailId, str] = {}
        for each in ids:
            number = id_value(IdKind.EMAIL, each)
            if number is None:
                results[each] = SetError("notFound")
            else:
                texts[EmailId(number)] = each
        if texts:
            view = self.session.view
            done = await email_edits.destroy(
                self.session.mail, view.id, list(texts), view.rights, at=self._at()
            )
            results.update(self._failures(done, texts))
        return results

    def _failures(self, done: Edited, texts: Mapping[EmailId, str]) -> dict[str, SetError]:
        if done.modseq is not None:
            self.modseqs.add(done.modseq)
        return {texts[each]: refusal(error) for each, error in done.failed.items()}


def refusal(error: errors.MailError) -> SetError:
    """Return what a client is told of a change that cannot be made."""
    match error:
        case NoMailbox():
            return invalid_properties(["mailboxIds"], str(error))
        case TooManyKeywords():
            return SetError("tooManyKeywords")
    return set_error(error)
