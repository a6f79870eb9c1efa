import json
import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver import log as logs
from mailserver.config import Secret


def record(message: str = "delivered", **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("mailserver.smtp.session")
    return logger.makeRecord(
        logger.name, logging.INFO, "file.py", 1, message, (), None, extra=extra or None
    )


def failed_record(error: Exception) -> logging.LogRecord:
    try:
        raise error
    except Exception:
        info = sys.exc_info()
    return logging.getLogger("x").makeRecord("x", logging.ERROR, "f.py", 1, "broke", (), info)


def test_json_line_has_the_fields() -> None:
    line = logs.JsonFormatter().format(record(session="s1", account="a1", size=3, tls=None))
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("ts"))
    assert fields == {
        "level": "info",
        "logger": "mailserver.smtp.session",
        "message": "delivered",
        "session": "s1",
        "account": "a1",
        "size": 3,
        "tls": None,
    }


def test_exception_is_one_field_of_one_line() -> None:
    line = logs.JsonFormatter().format(failed_record(ValueError("no\nway")))
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["exception"].startswith("Traceback")
    assert fields["exception"].endswith("ValueError: no\nway")


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.TextFormatter(False)])
@pytest.mark.parametrize("name", [*sorted(logs.SECRET_FIELDS), "Password"])
def test_secrets_are_masked(formatter: logging.Formatter, name: str) -> None:
    line = formatter.format(record(**{name: "hunter2"}))
    assert "hunter2" not in line
    assert "***" in line


def test_a_secret_value_masks_itself() -> None:
    assert "hunter2" not in logs.JsonFormatter().format(record(url=Secret("hunter2")))


def test_text_line() -> None:
    line = logs.TextFormatter(False).format(record(peer="127.0.0.1", text="two words"))
    assert re.fullmatch(
        r'[\d:.]{12} info    smtp.session: delivered  peer=127.0.0.1 text="two words"', line
    )


def test_colours_only_where_asked() -> None:
    assert "\x1b[" in logs.TextFormatter(True).format(record())
    assert "\x1b[" not in logs.TextFormatter(False).format(record())


@given(st.text(), st.text())
def test_no_value_forges_a_line_or_moves_the_cursor(message: str, value: str) -> None:
    for formatter in (logs.JsonFormatter(), logs.TextFormatter(False)):
        line = formatter.format(record(message.replace("%", ""), peer=value))
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line) or line.startswith("{")
        assert "\n" not in line
        assert "\x1b" not in line


@pytest.mark.parametrize("name", ["ts", "level", "logger"])
def test_an_extra_never_replaces_a_field(name: str) -> None:
    fields = json.loads(logs.JsonFormatter().format(record(**{name: "mine"})))
    assert fields[name] != "mine"
    assert fields[f"field_{name}"] == "mine"
