"""Reports in messages: found, unpacked within bounds, and read; pure."""

import io
import zipfile
import zlib
from collections.abc import Iterator

from mailserver.errors import Invalid, TooLarge
from mailserver.feedback import dmarc, tls
from mailserver.feedback.model import DmarcReport, TlsReport
from mailserver.mime import Part, decode_body, parse

MAX_PACKED = 10 * 1024 * 1024  # octets of an attachment
MAX_DOCUMENT = 20 * 1024 * 1024  # octets when it is unpacked
MAX_PARTS = 3  # of a message that are tried: reports come one by one

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
_SUBTYPES = frozenset(
    {
        "zip", "x-zip", "x-zip-compressed", "gzip", "x-gzip", "xml", "tlsrpt+gzip", "tlsrpt+json",
        "json",
    }
)  # fmt: skip
_ENDINGS = (".xml", ".xml.gz", ".zip", ".json", ".json.gz", ".gz")


def candidates(raw: bytes) -> Iterator[bytes]:
    """Return what may be a report in a message, without its transfer encoding."""
    found = 0
    for part in parse(raw).parts:
        if _is_candidate(part) and found < MAX_PARTS:
            found += 1
            octets = raw[part.body_start : part.body_end]
            if len(octets) <= 2 * MAX_PACKED:
                yield decode_body(octets, part.encoding)


def _is_candidate(part: Part) -> bool:
    if part.type not in ("application", "text"):
        return False
    return part.subtype in _SUBTYPES or (part.name or "").lower().endswith(_ENDINGS)


def read(data: bytes) -> DmarcReport | TlsReport:
    """Read an attachment; Invalid or TooLarge when it is no report that can be used."""
    document = unpacked(data).removeprefix(b"\xef\xbb\xbf").lstrip()
    if document[:1] == b"{":
        return tls.read(document)
    return dmarc.read(document)


def unpacked(data: bytes) -> bytes:
    """Return the document in gzip, zip or neither; TooLarge for one that grows too much."""
    if len(data) > MAX_PACKED:
        raise TooLarge("the attachment is too large")
    if data.startswith(GZIP):
        return _gunzip(data)
    if data.startswith(ZIP):
        return _unzip(data)
    return data


def _gunzip(data: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        document = inflater.decompress(data, MAX_DOCUMENT)
    except zlib.error as error:
        raise Invalid(f"no gzip: {error}") from None
    if inflater.unconsumed_tail:
        raise TooLarge("the report is too large when it is unpacked")
    if not inflater.eof:
        raise Invalid("the gzip is cut")
    return document


def _unzip(data: bytes) -> bytes:
    """Return the first file of an archive: reports have one (RFC 7489 §7.2.1.1)."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [each for each in archive.infolist() if not each.is_dir()]
            if not names:
                raise Invalid("an empty archive")
            if names[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Invalid("an archive packed in an unusual way")
            with archive.open(names[0]) as stream:
                document = stream.read(MAX_DOCUMENT + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Invalid(f"no zip: {error}") from None
    except RuntimeError:
        raise Invalid("an archive with a password") from None
    except (OSError, ValueError, LookupError) as error:  # offsets and names that make no sense
        raise Invalid(f"no zip: {error}") from None
    if len(document) > MAX_DOCUMENT:
        raise TooLarge("the report is too large when it is unpacked")
    return document
