"""DMARC aggregate reports as XML, read and written (RFC 9990; those of RFC 7489 are read too).

What is read comes from anybody: a document type is refused, and with it every entity, so no XML
grows while it is read. Depth, number and length are bounded.
"""

import html
import ipaddress
import re
from collections.abc import Mapping, Sequence
from pyexpat import ExpatError, ParserCreate

from mailserver.errors import Invalid, TooLarge
from mailserver.feedback.model import AuthResult, DmarcReport, DmarcRow

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
MAX_DEPTH = 16
MAX_TEXT = 1000  # characters of one value
MAX_ROWS = 50_000
MAX_RESULTS = 64  # of one row
MAX_COUNT = 10**12
MAX_TIME = 10**11

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ROW = ("feedback", "record")
_REPEATED = {  # what there may be several of in a row: the list it goes to
    (*_ROW, "auth_results", "dkim"): "dkim",
    (*_ROW, "auth_results", "spf"): "spf",
    (*_ROW, "row", "policy_evaluated", "reason"): "reason",
}

Values = dict[str, str]


class _Reader:
    """Collects the values of a report while its XML goes by."""

    def __init__(self) -> None:
        self.head: Values = {}  # by path below the root, with dots
        self.rows: list[DmarcRow] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._row: Values = {}
        self._repeated: list[tuple[str, Values]] = []

    def start(self, name: str, attributes: object) -> None:
        self._path.append(name.rpartition(" ")[2])
        self._text.clear()
        self._length = 0
        if len(self._path) > MAX_DEPTH:
            raise Invalid("the report is nested too deeply")
        path = tuple(self._path)
        if path == _ROW:
            self._row, self._repeated = {}, []
        elif path in _REPEATED and len(self._repeated) < MAX_RESULTS:
            self._repeated.append((_REPEATED[path], {}))

    def text(self, text: str) -> None:
        if self._length < MAX_TEXT:
            self._text.append(text[: MAX_TEXT - self._length])
            self._length += len(text)

    def end(self, name: str) -> None:
        path = tuple(self._path)
        value = " ".join("".join(self._text).split())
        self._text.clear()
        self._path.pop()
        if path == _ROW:
            self._finish()
        elif path[:2] != _ROW:
            if value:
                self.head.setdefault(".".join(path[1:]), value)
        elif path[:-1] in _REPEATED:
            if self._repeated:
                self._repeated[-1][1].setdefault(path[-1], value)
        elif value:
            self._row.setdefault(".".join(path[2:]), value)

    def _finish(self) -> None:
        if len(self.rows) >= MAX_ROWS:
            raise TooLarge("the report has too many rows")
        row = self._row
        self.rows.append(
            DmarcRow(
                _address(row.get("row.source_ip", "")),
                _number(row.get("row.count", ""), MAX_COUNT),
                row.get("row.policy_evaluated.disposition", "none").lower(),
                row.get("row.policy_evaluated.dkim", "fail").lower(),
                row.get("row.policy_evaluated.spf", "fail").lower(),
                row.get("identifiers.header_from", "").lower(),
                row.get("identifiers.envelope_from", "").lower(),
                tuple(
                    (each.get("type", ""), each.get("comment", ""))
                    for name, each in self._repeated
                    if name == "reason"
                ),
                tuple(
                    AuthResult(
                        name,
                        each.get("domain", "").lower(),
                        each.get("result", "").lower(),
                        each.get("selector", ""),
                    )
                    for name, each in self._repeated
                    if name != "reason"
                ),
            )
        )


def read(document: bytes) -> DmarcReport:
    """Read a report; Invalid or TooLarge when it is none that can be used."""
    reader = _Reader()
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(document, True)
    except (ExpatError, ValueError, LookupError) as error:  # of an encoding nobody knows
        raise Invalid(f"no XML: {error}") from None
    head = reader.head
    domain = head.get("policy_published.domain", "").lower().rstrip(".")
    organization = head.get("report_metadata.org_name", "")
    report_id = head.get("report_metadata.report_id", "")
    if not (domain and organization and report_id):
        raise Invalid("no DMARC report: it has no organization, id or domain")
    return DmarcReport(
        organization,
        head.get("report_metadata.email", ""),
        report_id,
        _number(head.get("report_metadata.date_range.begin", ""), MAX_TIME),
        _number(head.get("report_metadata.date_range.end", ""), MAX_TIME),
        domain,
        {
            name.rpartition(".")[2]: value
            for name, value in head.items()
            if name.startswith("policy_published.") and name != "policy_published.domain"
        },
        tuple(reader.rows),
    )


def _refuse_doctype(*_: object) -> None:
    raise Invalid("a report with a document type")


def _number(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) or int(text) > most:
        raise Invalid(f"no number: {text[:20]}")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise Invalid(f"no IP address: {text[:50]}") from None


# Writing --------------------------------------------------------------------------------------


def write(report: DmarcReport) -> bytes:
    """Return a report in the form of RFC 9990."""
    policy = {
        name: report.policy[name]
        for name in ("p", "sp", "np", "adkim", "aspf", "discovery_method", "testing")
        if report.policy.get(name)
    }
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f'<feedback xmlns="{NAMESPACE}">\n<version>1.0</version>\n',
        _block(
            "report_metadata",
            {
                "org_name": report.organization,
                "email": report.contact,
                "report_id": report.report_id,
            },
            _block("date_range", {"begin": str(report.begins), "end": str(report.ends)}),
        ),
        _block("policy_published", {"domain": report.domain, **policy}),
        *map(_row, report.rows),
        "</feedback>\n",
    ]
    return "".join(parts).encode()


def _row(row: DmarcRow) -> str:
    reasons = [_block("reason", {"type": kind, "comment": text}) for kind, text in row.reasons]
    evaluated = {"disposition": row.disposition, "dkim": row.dkim, "spf": row.spf}
    counted = _block(
        "row",
        {"source_ip": row.source_ip, "count": str(row.count)},
        _block("policy_evaluated", evaluated, *reasons),
    )
    identifiers = {"header_from": row.header_from}
    if row.envelope_from:
        identifiers["envelope_from"] = row.envelope_from
    results = [_result(each) for each in row.results if each.method == "dkim"]
    results += [_result(each) for each in row.results if each.method == "spf"][:1]
    return _block(
        "record",
        {},
        counted,
        _block("identifiers", identifiers),
        _block("auth_results", {}, *results),
    )


def _result(result: AuthResult) -> str:
    values = {"domain": result.domain}
    if result.method == "dkim":
        values["selector"] = result.selector
    else:
        values["scope"] = "mfrom"
    return _block(result.method, {**values, "result": result.result})


def _block(name: str, values: Mapping[str, str], *inner: str) -> str:
    return f"<{name}>\n{_elements(values)}{''.join(inner)}</{name}>\n"


def _elements(values: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{_text(value)}</{name}>\n" for name, value in values.items())


def _text(value: str) -> str:
    return html.escape(_NOT_XML.sub("?", value), quote=False)


def filename(report: DmarcReport, receiver: str) -> str:
    """Return the name of the file without its extension (RFC 9990 §3.5.1)."""
    return f"{receiver}!{report.domain}!{report.begins}!{report.ends}"


def rows_of(counts: Sequence[tuple[DmarcRow, int]]) -> tuple[DmarcRow, ...]:
    """Return rows with their counts, the largest first."""
    from dataclasses import replace

    ordered = sorted(counts, key=lambda each: -each[1])[:MAX_ROWS]
    return tuple(replace(row, count=count) for row, count in ordered)
