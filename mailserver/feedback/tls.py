"""SMTP TLS reports as JSON, read and written (RFC 8460 §4)."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from mailserver.errors import Invalid, TooLarge
from mailserver.feedback.model import TlsFailure, TlsPolicy, TlsReport

MAX_TEXT = 1000  # characters of one value
MAX_POLICIES = 1000
MAX_FAILURES = 10_000  # of one policy
MAX_COUNT = 10**12


def read(document: bytes) -> TlsReport:
    """Read a report; Invalid or TooLarge when it is none that can be used."""
    try:
        tree = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise Invalid("no JSON") from None
    if not isinstance(tree, dict):
        raise Invalid("no TLS report")
    policies = _list(tree, "policies")
    if len(policies) > MAX_POLICIES:
        raise TooLarge("the report has too many policies")
    dates = _dict(tree, "date-range")
    report = TlsReport(
        _text(tree, "organization-name"),
        _text(tree, "contact-info"),
        _text(tree, "report-id"),
        _time(dates, "start-datetime"),
        _time(dates, "end-datetime"),
        tuple(_policy(each) for each in policies if isinstance(each, dict)),
    )
    if not (report.organization and report.report_id and report.policies):
        raise Invalid("no TLS report: it has no organization, id or policy")
    return report


def _policy(tree: dict[str, Any]) -> TlsPolicy:
    about, summary = _dict(tree, "policy"), _dict(tree, "summary")
    failures = _list(tree, "failure-details")
    if len(failures) > MAX_FAILURES:
        raise TooLarge("the report has too many failures")
    domain = _text(about, "policy-domain").lower().rstrip(".")
    if not domain:
        raise Invalid("a policy without its domain")
    return TlsPolicy(
        _text(about, "policy-type"),
        domain,
        _count(summary, "total-successful-session-count"),
        _count(summary, "total-failure-session-count"),
        _texts(about, "policy-string"),
        _texts(about, "mx-host"),
        tuple(_failure(each) for each in failures if isinstance(each, dict)),
    )


def _failure(tree: dict[str, Any]) -> TlsFailure:
    return TlsFailure(
        _text(tree, "result-type"),
        _count(tree, "failed-session-count"),
        _text(tree, "receiving-mx-hostname"),
        _text(tree, "receiving-ip"),
        _text(tree, "sending-mta-ip"),
        _text(tree, "failure-reason-code") or _text(tree, "additional-information"),
    )


def _dict(tree: dict[str, Any], name: str) -> dict[str, Any]:
    value = tree.get(name, {})
    if not isinstance(value, dict):
        raise Invalid(f"{name} is no object")
    return value


def _list(tree: dict[str, Any], name: str) -> list[Any]:
    value = tree.get(name, [])
    if not isinstance(value, list):
        raise Invalid(f"{name} is no list")
    return value


def _text(tree: dict[str, Any], name: str) -> str:
    value = tree.get(name, "")
    return " ".join(value[:MAX_TEXT].split()) if isinstance(value, str) else ""


def _texts(tree: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts; some write a single text instead."""
    value = tree.get(name, [])
    values = value if isinstance(value, list) else [value]
    return tuple(each[:MAX_TEXT] for each in values[:MAX_POLICIES] if isinstance(each, str))


def _count(tree: dict[str, Any], name: str) -> int:
    value = tree.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise Invalid(f"{name} is no count")
    return value


def _time(tree: dict[str, Any], name: str) -> int:
    try:
        found = datetime.fromisoformat(_text(tree, name))
    except ValueError:
        raise Invalid(f"{name} is no time") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp())


# Writing --------------------------------------------------------------------------------------


def write(report: TlsReport) -> bytes:
    """Return a report as JSON."""
    return orjson.dumps(
        {
            "organization-name": report.organization,
            "date-range": {
                "start-datetime": _written(report.begins),
                "end-datetime": _written(report.ends),
            },
            "contact-info": report.contact,
            "report-id": report.report_id,
            "policies": [_written_policy(policy) for policy in report.policies],
        }
    )


def _written_policy(policy: TlsPolicy) -> dict[str, object]:
    about = {"policy-type": policy.policy_type, "policy-domain": policy.domain}
    more = {"policy-string": list(policy.policy), "mx-host": list(policy.hosts)}
    written: dict[str, object] = {
        "policy": {**about, **_given(more.items())},
        "summary": {
            "total-successful-session-count": policy.succeeded,
            "total-failure-session-count": policy.failed,
        },
    }
    if policy.failures:
        written["failure-details"] = [
            _given(
                {
                    "result-type": failure.result_type,
                    "sending-mta-ip": failure.sending_ip,
                    "receiving-mx-hostname": failure.receiving_host,
                    "receiving-ip": failure.receiving_ip,
                    "failed-session-count": failure.count,
                    "failure-reason-code": failure.reason,
                }.items()
            )
            for failure in policy.failures
        ]
    return written


def _given(items: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Return what has a value: a name without one says nothing."""
    return {name: value for name, value in items if value not in ("", [])}


def _written(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
