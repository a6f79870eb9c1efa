"""Reports that were received, as commands show them."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import orjson

from mailserver.errors import NotFound
from mailserver.feedback.model import Kind
from mailserver.model import IdKind, id_text, id_value
from mailserver.storage import feedback
from mailserver.storage.compression import decompress
from mailserver.storage.database import Database


async def newest(
    database: Database, kind: Kind, domain: str | None, since: datetime, limit: int
) -> list[dict[str, object]]:
    """Return what is known of reports, the newest first."""
    rows = await feedback.reports(database, kind, domain, since, limit)
    return [
        {
            "id": id_text(IdKind.FEEDBACK, row.id),
            "organization": row.organization,
            "domain": row.domain,
            "begins": row.begins_at,
            "ends": row.ends_at,
            "passed": row.passed,
            "failed": row.failed,
            "received": row.received_at,
        }
        for row in rows
    ]


async def whole(database: Database, kind: Kind, text: str) -> dict[str, Any]:
    """Return all of a report; NotFound."""
    number = id_value(IdKind.FEEDBACK, text)
    row = None if number is None else await feedback.report(database, kind, number)
    if row is None:
        raise NotFound(f"report {text}")
    document: dict[str, Any] = orjson.loads(decompress(row.content))
    return {"id": text, "received": row.received_at, **document}


async def sent(database: Database, kind: Kind, since: date, limit: int) -> list[dict[str, object]]:
    """Return what became of the reports that were due to others, the newest days first."""
    rows = await feedback.sent(database, kind, since, limit)
    return [
        {"day": row.day, "domain": row.domain, "outcome": row.outcome, "at": row.sent_at}
        for row in rows
    ]


async def sessions(
    database: Database, domain: str | None, since: date, limit: int
) -> list[dict[str, object]]:
    """Return how sessions with other servers were encrypted, the newest days first."""
    lines: list[dict[str, object]] = []
    for row in await feedback.seen(database, Kind.TLS, domain, since, limit):
        detail: dict[str, Any] = orjson.loads(row.detail)
        lines.append(
            {
                "day": row.day,
                "domain": row.domain,
                "policy": detail["type"],
                "result": detail["result"] or "success",
                "sessions": row.times,
                "host": detail["host"],
                "why": detail["reason"],
            }
        )
    return lines


def dmarc_rows(report: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a line for each row of a DMARC report, those that failed first."""
    lines = [
        {
            "source": row["source_ip"],
            "messages": row["count"],
            "result": "pass" if "pass" in (row["dkim"], row["spf"]) else "fail",
            "dkim": row["dkim"],
            "spf": row["spf"],
            "disposition": row["disposition"],
            "from": row["header_from"],
            "envelope": row["envelope_from"],
            "signed by": [each["domain"] for each in row["results"] if each["method"] == "dkim"],
            "why": [": ".join(filter(None, reason)) for reason in row["reasons"]],
        }
        for row in report["rows"]
    ]
    return sorted(lines, key=lambda line: (line["result"] == "pass", -line["messages"]))


def tls_rows(report: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return a line for each policy of a TLS report, and for each way in which it failed."""
    lines: list[dict[str, object]] = []
    for policy in report["policies"]:
        about = {"domain": policy["domain"], "policy": policy["policy_type"]}
        good = {"result": "success", "sessions": policy["succeeded"], "host": "", "why": ""}
        lines.append({**about, **good})
        lines += [
            {
                **about,
                "result": failure["result_type"],
                "sessions": failure["count"],
                "host": failure["receiving_host"] or failure["receiving_ip"],
                "why": failure["reason"],
            }
            for failure in policy["failures"]
        ]
    return lines
