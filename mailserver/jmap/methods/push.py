"""PushSubscription/get and /set (RFC 8620 §7.2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailserver.errors import Invalid, TooMany
from mailserver.jmap.methods.set import Records, Wishes, carry_out, check_size
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.dates import parse_utc, render_utc
from mailserver.jmap.protocol.errors import MethodError, SetError, invalid_properties
from mailserver.jmap.protocol.ids import push_text, push_value
from mailserver.jmap.protocol.properties import WrongType, nullable, optional, text, texts
from mailserver.jmap.protocol.push_keys import AUTH, read_base64url, write_base64url
from mailserver.jmap.protocol.push_urls import check_url
from mailserver.jmap.protocol.records import Property, Settable, Table, server_set
from mailserver.jmap.session import Session
from mailserver.mail import push, watching
from mailserver.mail.push import PushKeys, PushSubscription

MAX_DEVICE_ID = 255  # characters
MAX_TYPES = 100

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPush:
    """The arguments of PushSubscription/get; there is no account."""

    ids: tuple[str, ...] | None = optional("ids", nullable(texts), None)
    properties: tuple[str, ...] | None = optional("properties", nullable(texts), None)


# what keeps a device's secrets is never shown
_SHOWN: dict[str, Callable[[PushSubscription], object]] = {
    "id": lambda each: push_text(each.id),
    "deviceClientId": lambda each: each.device_client_id,
    "verificationCode": lambda each: each.verification_code if each.verified else None,
    "expires": lambda each: render_utc(each.expires_at),
    "types": lambda each: each.types,
}
_SECRET = frozenset({"url", "keys"})


async def get(session: Session, asked: GetPush) -> Json:
    """Return subscriptions, without what is private to the device (RFC 8620 §7.2.1)."""
    if asked.properties is not None and _SECRET.intersection(asked.properties):
        raise MethodError("forbidden", "url and keys are not shown")
    shown = properties.check_properties(asked.properties, tuple(_SHOWN))
    found = {
        push_text(each.id): each for each in await push.of_account(session.mail, session.account)
    }
    ids: Sequence[str] = list(found)
    if asked.ids is not None:
        most = session.limits.max_objects_in_get
        ids = [session.resolved(each) for each in properties.unique_ids(asked.ids, most)]
    return {
        "list": [
            {name: show(found[each]) for name, show in _SHOWN.items() if name in shown}
            for each in ids
            if each in found
        ],
        "notFound": [each for each in ids if each not in found],
    }


# Set ---------------------------------------------------------------------------------------------


def _device_id(value: object) -> str:
    found = text(value)
    if not 0 < len(found) <= MAX_DEVICE_ID or "\0" in found:
        raise WrongType(f"a string of 1 to {MAX_DEVICE_ID} characters")
    return found


def _keys(value: object) -> PushKeys | None:
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() == {"p256dh", "auth"}:
        from mailserver.jmap.protocol.webpush import is_point  # it costs memory

        point, secret = (
            read_base64url(each) if isinstance(each, str) else None
            for each in (value["p256dh"], value["auth"])
        )
        if point is not None and is_point(point) and secret is not None and len(secret) == AUTH:
            return PushKeys(point, secret)
    raise WrongType("p256dh, a point of P-256, and auth, 16 octets, in URL-safe base64")


def _expires(value: object) -> object:
    if value is None:
        return None
    moment = parse_utc(value) if isinstance(value, str) else None
    if moment is None:
        raise WrongType("a UTCDate")
    return moment


def _types(value: object) -> list[str] | None:
    if value is None:
        return None
    names = texts(value)
    if len(names) > MAX_TYPES or any(len(name) > MAX_DEVICE_ID or "\0" in name for name in names):
        raise WrongType("an array of names of types")
    return list(names)


TABLE: Table = {
    "id": server_set(text),
    "deviceClientId": Property(_device_id, settable=Settable.AT_CREATION),
    "url": Property(text, settable=Settable.AT_CREATION),
    "keys": Property(_keys, None, Settable.AT_CREATION),
    "verificationCode": Property(nullable(text), None),
    "expires": Property(_expires, None),
    "types": Property(_types, None),
}


async def set_subscriptions(session: Session, asked: Wishes) -> Json:
    """Make, change and remove subscriptions (RFC 8620 §7.2.2)."""
    check_size(session, asked)
    outcome = await carry_out(session, asked, _Subscriptions(session))
    return outcome.shown()


class _Subscriptions(Records):
    """Push subscriptions while a /set works on them."""

    table = TABLE

    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Make subscriptions; each begins when its code has come back."""
        results: dict[str, Any] = {}
        for each, values in new.items():
            try:
                made = await self._created(values)
            except SetError as error:
                results[each] = error
            except TooMany:
                results[each] = SetError("rateLimit", "too many push subscriptions")
            else:
                results[each] = {name: show(made) for name, show in _SHOWN.items()}
                if made.keys is None:
                    results[each] |= {"keys": None}
        return results

    async def _created(self, values: Json) -> PushSubscription:
        session = self.session
        if values["verificationCode"] is not None:
            raise invalid_properties(["verificationCode"], "comes after the subscription")
        if values["expires"] is not None and values["expires"] <= session.mail.now():
            raise invalid_properties(["expires"], "is over")
        try:
            check_url(values["url"], allow_private=session.mail.config.push.allow_private)
        except Invalid as error:
            raise invalid_properties(["url"], f"is {error}") from None
        new = push.New(
            values["deviceClientId"],
            values["url"],
            values["keys"],
            values["expires"],
            values["types"],
        )
        return await push.create(session.mail, session.account, new)

    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Return subscriptions with what never changes; it is compared and not shown."""
        return {name: _record(each) for name, each in (await self._own(ids)).items()}

    async def _own(self, ids: Sequence[str]) -> dict[str, PushSubscription]:
        found = await push.of_account(self.session.mail, self.session.account)
        return {push_text(each.id): each for each in found if push_text(each.id) in ids}

    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Take codes that came back, and new times and types."""
        results: dict[str, Json | SetError | None] = {}
        own = await self._own(list(changes))
        for name, values in changes.items():
            try:
                results[name] = await self._changed(own[name], values)
            except SetError as error:
                results[name] = error
        return results

    async def _changed(self, each: PushSubscription, values: Json) -> Json:
        mail, account = self.session.mail, self.session.account
        told: Json = {}
        code, expires = values.get("verificationCode"), values.get("expires")
        if code is not None:
            try:
                push.check_code(each, code)
            except Invalid:
                raise invalid_properties(["verificationCode"], "is not the one sent") from None
        elif "verificationCode" in values:
            raise invalid_properties(["verificationCode"], "cannot be taken back")
        if expires is not None and expires <= mail.now():
            raise invalid_properties(["expires"], "is over")
        if values.keys() & {"expires", "types"}:
            asked = expires if "expires" in values else each.expires_at
            types = values.get("types", each.types)
            until = await push.update(mail, account, each, asked, types)
            if "expires" in values and until != expires:
                told["expires"] = render_utc(until)
        if code is not None:
            place = await watching.place_now(mail, self.session.principal)
            await push.verify(mail, account, each, place)
        return told

    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Remove subscriptions, with all that they know of the device."""
        numbers = {name: push_value(name) for name in ids}
        wanted = [number for number in numbers.values() if number is not None]
        gone = await push.destroy(self.session.mail, self.session.account, wanted)
        return {
            name: None if number in gone else SetError("notFound")
            for name, number in numbers.items()
        }


def _record(each: PushSubscription) -> Json:
    keys = each.keys
    return {
        **{name: show(each) for name, show in _SHOWN.items()},
        "url": each.url,
        "keys": None
        if keys is None
        else {"p256dh": write_base64url(keys.p256dh), "auth": write_base64url(keys.auth)},
    }
