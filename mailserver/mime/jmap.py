"""Body parts as JMAP shows them (RFC 8621 §4.1.4), from the stored table of parts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict

from mailserver.mime.message import PartRow

_MEDIA = ("image", "audio", "video")
# Parts that a client handles by itself: nobody downloads a signature.
_AUTOMATIC = {
    ("application", "pgp-signature"), ("application", "pkcs7-signature"),
    ("application", "x-pkcs7-signature"),
}  # fmt: skip


class EmailBodyPart(TypedDict):
    """A body part; `subParts` is None for everything but a multipart."""

    partId: str | None
    blobId: str | None
    size: int
    name: str | None
    type: str
    charset: str | None
    disposition: str | None
    cid: str | None
    language: list[str] | None
    location: str | None
    subParts: "list[EmailBodyPart] | None"


class BodyStructure(TypedDict):
    """The four properties that describe the body of an Email."""

    bodyStructure: EmailBodyPart
    textBody: list[EmailBodyPart]
    htmlBody: list[EmailBodyPart]
    attachments: list[EmailBodyPart]


class BodyLists(NamedTuple):
    """The parts to display, as text and as HTML, and the others."""

    text: list[PartRow]
    html: list[PartRow]
    attachments: list[PartRow]


def children_of(parts: Sequence[PartRow]) -> list[list[int]]:
    """Return the indices of the children of every part; messages in messages stay closed."""
    children: list[list[int]] = [[] for _ in parts]
    for index, part in enumerate(parts):
        if part.parent >= 0 and parts[part.parent].type == "multipart":
            children[part.parent].append(index)
    return children


def body_lists(parts: Sequence[PartRow]) -> BodyLists:
    """Sort the parts into text, HTML and attachments by the algorithm of RFC 8621 §4.1.4."""
    lists = BodyLists([], [], [])
    decomposition = _Decomposition(parts, children_of(parts), lists.attachments)
    decomposition.walk([0], "mixed", False, lists.text, lists.html)
    return lists


class _Decomposition:
    def __init__(
        self, parts: Sequence[PartRow], children: list[list[int]], attachments: list[PartRow]
    ) -> None:
        self.parts = parts
        self.children = children
        self.attachments = attachments

    def walk(
        self,
        indices: list[int],
        multipart: str,
        in_alternative: bool,
        text: list[PartRow] | None,
        html: list[PartRow] | None,
    ) -> None:
        """Visit the parts of one multipart; a list that is None is not collected any more."""
        text_length = -1 if text is None else len(text)
        html_length = -1 if html is None else len(html)
        for place, index in enumerate(indices):
            part = self.parts[index]
            if part.type == "multipart":
                alternative = in_alternative or part.subtype == "alternative"
                self.walk(self.children[index], part.subtype, alternative, text, html)
            elif not _is_inline(part, place, multipart):
                self.attachments.append(part)
            elif multipart == "alternative":
                self._alternative(part, text, html)
            else:
                if in_alternative and part.type == "text":
                    text, html = (text, None) if part.subtype == "plain" else (None, html)
                self._show(part, text, html)
        if multipart == "alternative" and text is not None and html is not None:
            if text_length == len(text) and html_length != len(html):
                text.extend(html[html_length:])
            elif html_length == len(html) and text_length != len(text):
                html.extend(text[text_length:])

    def _alternative(
        self, part: PartRow, text: list[PartRow] | None, html: list[PartRow] | None
    ) -> None:
        if part.type != "text":
            self.attachments.append(part)
            return
        wanted = text if part.subtype == "plain" else html
        if wanted is not None:
            wanted.append(part)

    def _show(self, part: PartRow, text: list[PartRow] | None, html: list[PartRow] | None) -> None:
        if text is not None:
            text.append(part)
        if html is not None:
            html.append(part)
        if (text is None or html is None) and part.type in _MEDIA:
            self.attachments.append(part)


def _is_inline(part: PartRow, place: int, multipart: str) -> bool:
    """Tell whether a part is shown in the body rather than offered as a file."""
    if part.disposition == "attachment":
        return False
    media = part.type in _MEDIA
    if not media and not (part.type == "text" and part.subtype in ("plain", "html")):
        return False
    # in multipart/related only the first part is shown; a named text further down is a file
    return place == 0 or (multipart != "related" and (media or not part.name))


def has_attachment(parts: Sequence[PartRow], lists: BodyLists) -> bool:
    """Tell whether there is something to download (RFC 8621 §4.1.4)."""
    for part in lists.attachments:
        if part.disposition == "inline" or (part.type, part.subtype) in _AUTOMATIC:
            continue
        parent = parts[part.parent] if part.parent >= 0 else None
        embedded = part.type in _MEDIA and part.cid is not None and part.disposition is None
        if embedded and parent is not None and parent.subtype == "related":
            continue
        return True
    return False


def body_structure_jmap(
    parts: Sequence[PartRow], blob_id: Callable[[PartRow], str]
) -> BodyStructure:
    """Return bodyStructure, textBody, htmlBody and attachments; `blob_id` names a part's octets."""
    children = children_of(parts)

    def shown(index: int) -> EmailBodyPart:
        result = _body_part(parts[index], blob_id)
        if parts[index].type == "multipart":
            result["subParts"] = [shown(child) for child in children[index]]
        return result

    lists = body_lists(parts)
    return {
        "bodyStructure": shown(0),
        "textBody": [_body_part(part, blob_id) for part in lists.text],
        "htmlBody": [_body_part(part, blob_id) for part in lists.html],
        "attachments": [_body_part(part, blob_id) for part in lists.attachments],
    }


def _body_part(part: PartRow, blob_id: Callable[[PartRow], str]) -> EmailBodyPart:
    leaf = part.type != "multipart"
    return {
        "partId": part.section if leaf else None,
        "blobId": blob_id(part) if leaf else None,
        "size": part.size,
        "name": part.name,
        "type": f"{part.type}/{part.subtype}",
        "charset": part.charset,
        "disposition": part.disposition,
        "cid": part.cid,
        "language": list(part.language) or None,
        "location": part.location,
        "subParts": None,
    }
