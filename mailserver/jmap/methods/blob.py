"""Blob/copy (RFC 8620 §6.3), and Blob/upload, Blob/get and Blob/lookup (RFC 9404)."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mailserver.errors import NotFound, OverQuota, TooMany
from mailserver.jmap.methods.set import set_error
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import (
    MethodError,
    SetError,
    invalid_arguments,
    invalid_properties,
)
from mailserver.jmap.protocol.ids import (
    BlobName,
    Slice,
    blob_text,
    email_text,
    mailbox_text,
    parse_blob,
    thread_text,
)
from mailserver.jmap.protocol.properties import nullable, optional, required, text, texts, unsigned
from mailserver.jmap.session import AccountView, Limits, Session
from mailserver.mail import blobs, content, uploads
from mailserver.mail.blobs import Use
from mailserver.mail.context import Mail
from mailserver.mime import decode_body
from mailserver.model import AccountId, BlobId

LARGE = 1024 * 1024  # octets; a larger part is decoded in a thread
MAX_DATA_SOURCES = 128  # of one blob
MAX_DATA = 64 * 1024 * 1024  # octets that one Blob/get or Blob/upload handles
DEFAULT_TYPE = "application/octet-stream"

Json = dict[str, Any]

# algorithm of the HTTP Digest Algorithm Values registry -> the function
_DIGESTS: dict[str, Callable[[bytes], Any]] = {
    "sha": lambda data: hashlib.sha1(data, usedforsecurity=False),
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
}
_TYPES: dict[str, Callable[[Use], Iterable[str]]] = {
    "Email": lambda use: (email_text(use.email_id),),
    "Mailbox": lambda use: map(mailbox_text, use.mailbox_ids),
    "Thread": lambda use: (thread_text(use.thread_id),),
}


def capability(limits: Limits) -> Json:
    """Return the blob capability of an account (RFC 9404 §3.1)."""
    return {
        "maxSizeBlobSet": limits.max_size_upload,
        "maxDataSources": MAX_DATA_SOURCES,
        "supportedTypeNames": list(_TYPES),
        "supportedDigestAlgorithms": list(_DIGESTS),
    }


# Reading -----------------------------------------------------------------------------------------


async def octets(mail: Mail, view: AccountView, reader: AccountId, name: BlobName) -> bytes:
    """Return what a blob id names, decoded where it names a part; NotFound when it is not seen."""
    await _demand_readable(mail, view, reader, name)
    return await _cut(await content.content(mail, view.id, name.blob_id), name.part)


async def _demand_readable(
    mail: Mail, view: AccountView, reader: AccountId, name: BlobName
) -> None:
    share = view.share
    if share is not None and not await blobs.readable(mail, share, [name.blob_id], reader):
        raise NotFound("blob")


async def _cut(raw: bytes, part: Slice | None) -> bytes:
    if part is None:
        return raw
    end = part.start + part.length
    if end > len(raw):
        raise NotFound("blob")
    if part.length > LARGE:
        return await asyncio.to_thread(decode_body, raw[part.start : end], part.encoding)
    return decode_body(raw[part.start : end], part.encoding)


async def read(
    session: Session, blob_id: str, view: AccountView | None = None, *, stretch: bool = False
) -> bytes | None:
    """Return the octets of a blob of the account, None when there is none that may be read.

    Say whether only a `stretch` of it is wanted. Raises TooMany when more was read for stretches
    and parts in this request than one may.
    """
    name = parse_blob(session.resolved(blob_id))
    if name is None:
        return None
    view = view or session.view
    try:
        await _demand_readable(session.mail, view, session.principal.account_id, name)
        whole = await _whole(session, view.id, name.blob_id, stretch or name.part is not None)
        return await _cut(whole, name.part)
    except NotFound:
        return None


async def _whole(session: Session, account: AccountId, blob: BlobId, stretch: bool) -> bytes:
    """Return what a blob is in, from what the request read before if it is there."""
    sources = session.sources
    raw = sources.find(account, blob)
    if raw is not None:
        return raw
    if stretch:
        sources.demand_room()
    raw = await content.content(session.mail, account, blob)
    if stretch:
        sources.add(account, blob, raw)
    return raw


async def read_for_record(session: Session, blob_id: str) -> bytes | None:
    """Return the octets of a blob that a record is made of; raise SetError."""
    try:
        return await read(session, blob_id)
    except TooMany as error:
        raise set_error(error) from None


class _Budget:
    """How many octets a call may still handle."""

    def __init__(self) -> None:
        self.left = MAX_DATA

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise MethodError("requestTooLarge", f"more than {MAX_DATA} octets in one call")


# Blob/copy ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The arguments of Blob/copy."""

    from_account_id: str = required("fromAccountId", text)
    account_id: str = required("accountId", text)
    blob_ids: tuple[str, ...] = required("blobIds", texts)


async def copy(session: Session, asked: Copy) -> Json:
    """Copy blobs of another account (RFC 8620 §6.3)."""
    if asked.from_account_id == asked.account_id:
        raise invalid_arguments("fromAccountId and accountId are the same")
    source = await session.find(asked.from_account_id)
    if source is None:
        raise MethodError("fromAccountNotFound")
    copied: dict[str, str] = {}
    refused: dict[str, Json] = {}
    budget = _Budget()
    for blob_id in properties.unique_ids(asked.blob_ids, session.limits.max_objects_in_set):
        raw = await read(session, blob_id, source)
        if raw is None:
            refused[blob_id] = SetError("blobNotFound").body()
            continue
        budget.take(len(raw))
        try:
            copied[blob_id] = await _store(session, raw)
        except OverQuota:
            refused[blob_id] = SetError("overQuota").body()
    return {
        "fromAccountId": asked.from_account_id,
        "accountId": asked.account_id,
        "copied": copied or None,
        "notCopied": refused or None,
    }


async def _store(session: Session, raw: bytes) -> str:
    blob = await uploads.store(session.mail, session.account, raw, session.principal.account_id)
    return blob_text(blob)


# Blob/upload -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The arguments of Blob/upload."""

    account_id: str = required("accountId", text)
    create: dict[str, Json] = required("create", properties.objects)


async def upload(session: Session, asked: Upload) -> Json:
    """Make blobs of text, of base64, and of stretches of other blobs (RFC 9404 §4.1)."""
    if len(asked.create) > session.limits.max_objects_in_set:
        raise MethodError("requestTooLarge")
    created: dict[str, Json] = {}
    refused: dict[str, Json] = {}
    budget = _Budget()
    for creation_id in _in_order(asked.create):
        given = asked.create[creation_id]
        try:
            raw = await _assembled(session, given, budget)
            blob_id = await _store(session, raw)
        except SetError as error:
            refused[creation_id] = error.body()
            continue
        except OverQuota:
            refused[creation_id] = SetError("overQuota").body()
            continue
        session.created_ids[creation_id] = blob_id
        media_type = given.get("type") or DEFAULT_TYPE
        created[creation_id] = {"id": blob_id, "type": media_type, "size": len(raw)}
    return {
        "accountId": session.account_id,
        "created": created or None,
        "notCreated": refused or None,
    }


def _in_order(create: Mapping[str, Json]) -> list[str]:
    """Return creation ids, those that others of the call are made of before these."""
    needs = {
        creation_id: {
            source["blobId"][1:]
            for source in given.get("data") or ()
            if isinstance(source, dict) and str(source.get("blobId", "")).startswith("#")
        }
        & (create.keys() - {creation_id})
        for creation_id, given in create.items()
        if isinstance(given.get("data"), list | None)
    }
    ordered: list[str] = []
    waiting = list(create)
    while waiting:
        ready = [each for each in waiting if needs.get(each, set()) <= set(ordered)]
        # those that need each other in a circle are refused one by one: nothing is there yet
        ordered += ready or waiting
        waiting = [each for each in waiting if each not in ordered] if ready else []
    return ordered


async def _assembled(session: Session, given: Json, budget: _Budget) -> bytes:
    """Put the data sources of an upload together; raise SetError."""
    wrong = sorted(given.keys() - {"data", "type"})
    sources, media_type = given.get("data"), given.get("type")
    if not isinstance(sources, list) or not all(isinstance(each, dict) for each in sources):
        wrong.append("data")
    if media_type is not None and not isinstance(media_type, str):
        wrong.append("type")
    if wrong:
        raise invalid_properties(wrong)
    assert isinstance(sources, list)
    most = session.limits.max_size_upload
    if len(sources) > MAX_DATA_SOURCES:
        raise SetError("tooLarge", f"at most {MAX_DATA_SOURCES} data sources", maxSize=most)
    raw = bytearray()
    for source in sources:
        piece = await _piece(session, source)
        budget.take(len(piece))
        raw += piece
        if len(raw) > most:
            raise SetError("tooLarge", maxSize=most)
    return bytes(raw)


async def _piece(session: Session, source: Json) -> bytes:
    match source:
        case {"data:asText": str() as data} if len(source) == 1:
            return data.encode()
        case {"data:asBase64": str() as data} if len(source) == 1:
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error:
                raise invalid_properties(["data"], "data:asBase64 is not base64") from None
        case {"blobId": str() as blob_id} if source.keys() <= {"blobId", "offset", "length"}:
            return await _stretch(session, blob_id, source.get("offset"), source.get("length"))
    raise invalid_properties(["data"], "each data source is a text, base64, or a blobId")


async def _stretch(session: Session, blob_id: str, offset: object, length: object) -> bytes:
    try:
        start = nullable(unsigned)(offset) or 0
        count = nullable(unsigned)(length)
    except properties.WrongType:
        raise invalid_properties(["data"], "offset and length are unsigned integers") from None
    raw = await read(session, blob_id, stretch=bool(start) or count is not None)
    if raw is None:
        raise SetError("blobNotFound", notFound=[blob_id])
    end = len(raw) if count is None else start + count
    if start > len(raw) or end > len(raw):
        raise invalid_properties(["data"], "the range is not in the blob")
    return raw[start:end]


# Blob/get ----------------------------------------------------------------------------------------

_DATA = ("data", "data:asText", "data:asBase64")
_DIGEST = "digest:"
PROPERTIES = (*_DATA, "size", *(_DIGEST + name for name in _DIGESTS))
DEFAULT_PROPERTIES = ("data", "size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """The arguments of Blob/get."""

    account_id: str = required("accountId", text)
    ids: tuple[str, ...] | None = required("ids", nullable(texts))
    properties: tuple[str, ...] | None = optional("properties", nullable(texts), None)
    offset: int | None = optional("offset", nullable(unsigned), None)
    length: int | None = optional("length", nullable(unsigned), None)


async def get(session: Session, asked: Get) -> Json:
    """Return octets of blobs, their sizes and digests (RFC 9404 §4.2)."""
    if asked.ids is None:
        raise MethodError("requestTooLarge", "blobs are not listed; ask for ids")
    wanted = DEFAULT_PROPERTIES if asked.properties is None else asked.properties
    shown = properties.check_properties(wanted, (*PROPERTIES, "id"))
    found: list[Json] = []
    missing: list[str] = []
    budget = _Budget()
    stretch = bool(asked.offset) or asked.length is not None
    for blob_id in properties.unique_ids(asked.ids, session.limits.max_objects_in_get):
        raw = await read(session, blob_id, stretch=stretch)
        if raw is None:
            missing.append(blob_id)
            continue
        start = asked.offset or 0
        end = len(raw) if asked.length is None else start + asked.length
        piece = raw[start:end]
        budget.take(len(piece))
        values: Json = {"id": session.resolved(blob_id), **_represented(piece, shown)}
        if start > len(raw) or end > len(raw):
            values["isTruncated"] = True
        if "size" in shown:
            values["size"] = len(raw)
        found.append(values)
    return {"accountId": session.account_id, "list": found, "notFound": missing}


def _represented(piece: bytes, shown: frozenset[str]) -> Json:
    values: Json = {}
    decoded: str | None = None
    if "data" in shown or "data:asText" in shown:
        try:
            decoded = piece.decode()
        except UnicodeDecodeError:
            values["isEncodingProblem"] = True
    if decoded is not None:
        values["data:asText"] = decoded
    elif "data:asText" in shown:
        values["data:asText"] = None
    if "data:asBase64" in shown or ("data" in shown and decoded is None):
        values["data:asBase64"] = base64.b64encode(piece).decode("ascii")
    for name, digest in _DIGESTS.items():
        if _DIGEST + name in shown:
            values[_DIGEST + name] = base64.b64encode(digest(piece).digest()).decode("ascii")
    return values


# Blob/lookup -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The arguments of Blob/lookup."""

    account_id: str = required("accountId", text)
    type_names: tuple[str, ...] = required("typeNames", texts)
    ids: tuple[str, ...] = required("ids", texts)


async def lookup(session: Session, asked: Lookup) -> Json:
    """Return which emails, threads and mailboxes have blobs in them (RFC 9404 §4.3)."""
    unknown = next((name for name in asked.type_names if name not in _TYPES), None)
    if unknown is not None:
        raise MethodError("unknownDataType", f"{unknown[:50]!r} has no blobs")
    ids = properties.unique_ids(asked.ids, session.limits.max_objects_in_get)
    names = {each: parse_blob(session.resolved(each)) for each in ids}
    numbers = list({name.blob_id for name in names.values() if name is not None})
    sizes = await blobs.sizes(session.mail, session.account, numbers)
    there = set(sizes)
    share = session.view.share
    if share is not None:
        reader = session.principal.account_id
        there &= await blobs.readable(session.mail, share, numbers, reader)
    uses: dict[BlobId, list[Use]] = {}
    for use in await blobs.uses(session.mail, session.account, list(there), session.view.readable):
        uses.setdefault(use.blob_id, []).append(use)
    found = [
        {"id": each, "matchedIds": _matched(asked.type_names, uses.get(name.blob_id, ()))}
        for each, name in names.items()
        if name is not None and name.blob_id in there and _fits(name, sizes)
    ]
    known = {each["id"] for each in found}
    return {
        "accountId": session.account_id,
        "list": found,
        "notFound": [each for each in ids if each not in known],
    }


def _fits(name: BlobName, sizes: Mapping[BlobId, int]) -> bool:
    return name.part is None or name.part.start + name.part.length <= sizes[name.blob_id]


def _matched(type_names: Sequence[str], uses: Sequence[Use]) -> dict[str, list[str]]:
    return {
        name: list(dict.fromkeys(each for use in uses for each in _TYPES[name](use)))
        for name in type_names
    }
