"""Upload (RFC 8620 §6.1), and download of messages and of their parts (§6.2)."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import orjson

from mailserver.errors import NotFound
from mailserver.jmap.methods.blob import DEFAULT_TYPE
from mailserver.jmap.methods.blob import octets as blob_octets
from mailserver.jmap.protocol.ids import account_text, blob_text, parse_blob
from mailserver.jmap.server.access import Gate, read_body
from mailserver.jmap.server.conditions import is_known, wanted_range
from mailserver.jmap.server.replies import (
    CORS,
    JSON,
    NO_STORE,
    NOSNIFF,
    Header,
    Receive,
    Send,
    reply,
    simple_problem,
)
from mailserver.jmap.session import AccountView, Limits
from mailserver.mail import uploads
from mailserver.mail.context import Mail
from mailserver.model import AccountId

CHUNK = 256 * 1024  # octets handed to the transport at once
SEND_TIMEOUT = 60.0  # seconds for one chunk
MAX_NAME = 200  # characters of a file name
UPLOAD_TIME = 600.0  # seconds in which the octets of an upload must come
UPLOAD_MEMORY = 256 * 1024 * 1024  # octets of uploads in memory, of all accounts together
MAX_TYPE = 200  # characters of a content type

_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}"
    r"(?:; ?charset=\"?[A-Za-z0-9_.:-]{1,40}\"?)?",
    re.ASCII,
)
Headers = Mapping[bytes, bytes]

_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\\"]")


@dataclass(frozen=True, slots=True)
class Wish:
    """The variables of a download URL."""

    blob_id: str
    name: str
    accept: str  # the media type to be sent
    head: bool  # only the headers


class Downloads:
    """Sends blobs."""

    def __init__(self, mail: Mail, limits: Limits) -> None:
        self._mail = mail
        self._gate = Gate(limits.max_concurrent_requests, "maxConcurrentRequests")

    async def send(
        self, view: AccountView, reader: AccountId, wish: Wish, headers: Headers, send: Send
    ) -> None:
        """Send a blob as a file; raise NotFound, Unavailable or Corrupt before anything is sent."""
        parsed = parse_blob(wish.blob_id)
        if parsed is None:
            raise NotFound("blob")
        tag = f'"{wish.blob_id}"'.encode("ascii")
        fields = _fields(wish.name, wish.accept, tag)
        async with self._gate.enter(reader):
            octets = await blob_octets(self._mail, view, reader, parsed)
            if is_known(headers, tag):
                await _respond(send, 304, fields, b"")
                return
            status, part = 200, wanted_range(headers, tag, len(octets))
            if part is not None:
                status = 206 if part else 416
                shown = f"{part[0]}-{part[-1]}" if part else "*"
                size = len(octets)
                fields.append((b"content-range", f"bytes {shown}/{size}".encode("ascii")))
                octets = octets[part.start : part.stop]
            fields.append((b"content-length", str(len(octets)).encode("ascii")))
            await _respond(send, status, fields, b"" if wish.head else octets)


async def _respond(send: Send, status: int, fields: list[Header], octets: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    for piece in _pieces(octets):
        message = {"type": "http.response.body", "body": piece, "more_body": True}
        await asyncio.wait_for(send(message), SEND_TIMEOUT)
    await send({"type": "http.response.body", "body": b""})


class Uploads:
    """Takes blobs in."""

    def __init__(self, mail: Mail, limits: Limits, memory: int = UPLOAD_MEMORY) -> None:
        self._mail = mail
        self._most = limits.max_size_upload
        self._free = max(memory, self._most)  # one upload always fits
        self._gate = Gate(limits.max_concurrent_upload, "maxConcurrentUpload")

    async def take(
        self,
        account: AccountId,
        uploader: AccountId,
        headers: Headers,
        receive: Receive,
        send: Send,
    ) -> None:
        """Store what the client sends and answer with its blob id."""
        async with self._gate.enter(uploader):
            with self._memory(headers):
                raw = await read_body(receive, headers, self._most, "maxSizeUpload", UPLOAD_TIME)
                blob = await uploads.store(self._mail, account, raw, uploader)
        answer = {
            "accountId": account_text(account),
            "blobId": blob_text(blob),
            "type": _sent_type(headers),
            "size": len(raw),
        }
        await reply(send, 201, orjson.dumps(answer), (JSON, NO_STORE))

    @contextmanager
    def _memory(self, headers: Headers) -> Iterator[None]:
        """Set memory aside; without an announced length, for the largest upload."""
        announced = headers.get(b"content-length", b"")[:20]
        size = min(int(announced), self._most) if announced.isdigit() else self._most
        if size > self._free:
            raise simple_problem(503, "too many uploads at once; try again later")
        self._free -= size
        try:
            yield
        finally:
            self._free += size


def _sent_type(headers: Headers) -> str:
    found = headers.get(b"content-type", b"").decode("latin-1")[:MAX_TYPE]
    return found or DEFAULT_TYPE


def _pieces(octets: bytes) -> Iterator[bytes]:
    return (octets[start : start + CHUNK] for start in range(0, len(octets), CHUNK))


def _fields(name: str, accept: str, tag: bytes) -> list[Header]:
    """Return headers under which no browser shows mail as a page of this site."""
    media_type = accept if _MEDIA_TYPE.fullmatch(accept) else DEFAULT_TYPE
    safe = _UNSAFE.sub("_", name)[:MAX_NAME] or "download"
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    encoded = quote(safe.encode("utf-8", "replace"), safe="")
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    return [
        (b"content-type", media_type.encode("ascii")),
        (b"content-disposition", disposition.encode("ascii")),
        (b"cache-control", b"private, immutable, max-age=31536000"),
        (b"etag", tag),
        (b"accept-ranges", b"bytes"),
        (b"content-security-policy", b"sandbox; default-src 'none'"),
        NOSNIFF,
        *CORS,
    ]
