"""The message core: RFC 5322 and MIME, read once at delivery; total, bounded, without I/O.

`digest` is what delivery calls. Later on `Env.unpack` gives lists and fetches what they need, and
`section`, `header_fields`, `decode_body` and `decode_text` cut a message that is at hand.
"""

from mailserver.mime.bodies import decode_body, decode_text, is_known
from mailserver.mime.charsets import codec_of
from mailserver.mime.forms import (
    all_headers,
    as_addresses,
    as_date,
    as_grouped_addresses,
    as_message_ids,
    as_raw,
    as_text,
    as_urls,
    part_headers,
)
from mailserver.mime.headers import (
    HEADER_LIMIT,
    Field,
    HeaderBlock,
    field_chooser,
    field_reader,
    header_fields,
)
from mailserver.mime.jmap import body_lists, body_structure_jmap
from mailserver.mime.message import Message, Part, PartRow
from mailserver.mime.scan import parse
from mailserver.mime.search import SearchText, search_text
from mailserver.mime.sections import find, section, section_range
from mailserver.mime.stored import Digest, Env, digest, part_rows, structures
from mailserver.mime.structure import body, bodystructure, envelope
from mailserver.mime.subject import base
from mailserver.mime.textual import textual

__all__ = [
    "HEADER_LIMIT", "Digest", "Env", "Field", "HeaderBlock", "Message", "Part", "PartRow",
    "SearchText", "all_headers", "as_addresses", "as_date", "as_grouped_addresses",
    "as_message_ids", "as_raw",
    "as_text", "as_urls", "base", "body", "body_lists", "body_structure_jmap", "bodystructure",
    "codec_of", "decode_body", "decode_text", "digest", "envelope", "field_chooser",
    "field_reader", "find", "header_fields",
    "is_known", "parse", "part_headers", "part_rows", "search_text", "section", "section_range",
    "structures", "textual",
]  # fmt: skip
