"""What every /set has in common (RFC 8620 §5.3).

A type is a subclass of `Records`. `run` answers a call: it orders what is to be done, resolves
creation ids, and collects what became of each record.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mailserver import errors
from mailserver.jmap.protocol import properties, records
from mailserver.jmap.protocol.errors import MethodError, SetError
from mailserver.jmap.protocol.properties import nullable, optional, required, text, texts
from mailserver.jmap.protocol.records import Table
from mailserver.jmap.session import Session

log = logging.getLogger(__name__)

T = TypeVar("T")

Json = dict[str, Any]

# what an operation raises about one record -> the type of the SetError
SET_ERRORS: dict[type[errors.MailError], str] = {
    errors.Forbidden: "forbidden",
    errors.NotFound: "notFound",
    errors.OverQuota: "overQuota",
    errors.TooLarge: "tooLarge",
    errors.TooMany: "rateLimit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a /set is to do; all there is of the arguments where there is no account."""

    create: dict[str, Json] | None = optional("create", nullable(properties.objects), None)
    update: dict[str, Json] | None = optional("update", nullable(properties.objects), None)
    destroy: tuple[str, ...] | None = optional("destroy", nullable(texts), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Set(Wishes):
    """The arguments of a /set method."""

    account_id: str = required("accountId", text)
    if_in_state: str | None = optional("ifInState", nullable(text), None)


class Records(ABC):
    """The records of one type as /set sees them.

    Operations take many at once, so that a type can do all of a call in one transaction; each
    answers for every record: with a SetError, or with what the client cannot know of it.
    """

    table: Table

    def __init__(self, session: Session) -> None:
        self.session = session
        self.modseqs: set[int] = set()  # of the changes that were made

    async def state(self) -> str:
        """Return the state before anything is done."""
        return await self.session.fresh_state()

    async def new_state(self) -> str:
        """Return the state afterwards."""
        return await self.session.advanced(self.modseqs)

    def read(self, given: Mapping[str, Any]) -> Json:
        """Read the properties of a record that is to be created."""
        return records.created(self.table, given, self.resolve)

    @abstractmethod
    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Make records of read properties, by creation id; return their JSON with the `id`."""

    @abstractmethod
    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Return those of the records that exist as /get shows them, for patches."""

    @abstractmethod
    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Give records new values of some properties; return what else changed thereby."""

    @abstractmethod
    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Remove records."""

    async def update(self, patches: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Apply patches to records."""
        current = await self.current(list(patches))
        results: dict[str, Json | SetError | None] = {}
        changes: dict[str, Json] = {}
        for each, patch in patches.items():
            if each not in current:
                results[each] = SetError("notFound")
                continue
            try:
                changes[each] = records.patched(self.table, current[each], patch, self.resolve)
            except SetError as error:
                results[each] = error
        results.update({each: None for each, values in changes.items() if not values})
        changes = {each: values for each, values in changes.items() if values}
        if changes:
            results.update(await self.change(changes))
        return results

    def resolve(self, text: str) -> str | None:
        """Return the id that a reference stands for; None when nothing was created for it."""
        if text.startswith("#"):
            return self.session.created_ids.get(text[1:])
        return text


def set_error(error: errors.MailError) -> SetError:
    """Return what a failure says about one record; one that concerns all is raised again."""
    kind = SET_ERRORS.get(type(error))
    if kind is None:
        raise error
    return SetError(kind)


@dataclass(slots=True)
class Outcome:
    """What became of each record."""

    created: dict[str, Json] = field(default_factory=dict)
    updated: dict[str, Json | None] = field(default_factory=dict)
    destroyed: list[str] = field(default_factory=list)
    not_created: dict[str, SetError] = field(default_factory=dict)
    not_updated: dict[str, SetError] = field(default_factory=dict)
    not_destroyed: dict[str, SetError] = field(default_factory=dict)

    def done(self) -> bool:
        """Tell whether anything was changed."""
        return bool(self.created or self.updated or self.destroyed)

    def shown(self) -> Json:
        """Return the part of the response that is about records."""
        return {
            "created": self.created or None,
            "updated": self.updated or None,
            "destroyed": self.destroyed or None,
            "notCreated": shown_errors(self.not_created),
            "notUpdated": shown_errors(self.not_updated),
            "notDestroyed": shown_errors(self.not_destroyed),
        }


def shown_errors(found: Mapping[str, SetError]) -> Json | None:
    """Return SetErrors by id; null when there are none."""
    return {each: error.body() for each, error in found.items()} or None


async def run(session: Session, asked: Set, kind: Records) -> Json:
    """Answer a /set call."""
    check_size(session, asked)
    old_state = await kind.state()
    check_state(asked.if_in_state, old_state)
    outcome = await carry_out(session, asked, kind)
    return {
        "accountId": session.account_id,
        "oldState": old_state,
        "newState": await kind.new_state(),
        **outcome.shown(),
    }


def check_size(session: Session, asked: Wishes) -> None:
    """Refuse more records than one call may touch."""
    most = session.limits.max_objects_in_set
    if sum(len(each) for each in (asked.create, asked.update, asked.destroy) if each) > most:
        raise MethodError("requestTooLarge", f"at most {most} objects in one call")


def check_state(expected: str | None, state: str) -> None:
    """Raise `stateMismatch` when the client does not know the newest state."""
    if expected is not None and expected != state:
        raise MethodError("stateMismatch")


async def carry_out(session: Session, asked: Wishes, kind: Records) -> Outcome:
    """Create, then update, then destroy: what is created can be referred to by all that follows."""
    outcome = Outcome()
    create = asked.create or {}
    for group in records.in_order(kind.table, create):
        await _create(session, {each: create[each] for each in group}, kind, outcome)
    doomed = {each: kind.resolve(each) for each in dict.fromkeys(asked.destroy or ())}
    if asked.update:
        await _update(asked.update, set(doomed.values()), kind, outcome)
    if doomed:
        await _destroy(doomed, kind, outcome)
    return outcome


async def _create(
    session: Session, given: Mapping[str, Json], kind: Records, outcome: Outcome
) -> None:
    new: dict[str, Json] = {}
    for each, properties_given in given.items():
        try:
            new[each] = kind.read(properties_given)
        except SetError as error:
            outcome.not_created[each] = error
    if not new:
        return
    for each, made in (await _attempt(kind.create(new), outcome)).items():
        if isinstance(made, SetError):
            outcome.not_created[each] = made
            continue
        session.created_ids[each] = made["id"]
        outcome.created[each] = {
            name: value
            for name, value in made.items()
            if name not in given[each] or given[each][name] != value
        }


async def _update(
    update: Mapping[str, Json], doomed: set[str | None], kind: Records, outcome: Outcome
) -> None:
    patches: dict[str, Json] = {}
    names: dict[str, str] = {}
    for name, patch in update.items():
        each = kind.resolve(name)
        if each is None:
            outcome.not_updated[name] = SetError("notFound")
        elif each in doomed:
            outcome.not_updated[name] = SetError("willDestroy")
        elif each in patches:
            outcome.not_updated[name] = SetError("invalidPatch", "another patch is for it too")
        else:
            patches[each], names[each] = patch, name
    if not patches:
        return
    for each, result in (await _attempt(kind.update(patches), outcome)).items():
        if isinstance(result, SetError):
            outcome.not_updated[names[each]] = result
        else:
            outcome.updated[each] = result or None


async def _destroy(doomed: Mapping[str, str | None], kind: Records, outcome: Outcome) -> None:
    names = {each: name for name, each in doomed.items() if each is not None}
    for name, each in doomed.items():
        if each is None:
            outcome.not_destroyed[name] = SetError("notFound")
    if not names:
        return
    for each, error in (await _attempt(kind.destroy(list(names)), outcome)).items():
        if error is None:
            outcome.destroyed.append(each)
        else:
            outcome.not_destroyed[names[each]] = error


async def _attempt(operation: Awaitable[T], outcome: Outcome) -> T:
    """Run an operation; when it fails after others have changed something, say so."""
    try:
        return await operation
    except MethodError:
        raise
    except Exception:
        if not outcome.done():
            raise
        log.exception("a part of a /set failed")
        raise MethodError("serverPartialFail") from None
