"""Logging: one line a record, with the fields that were given as `extra`."""

import logging
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

Format = Literal["auto", "json", "text"]

# What every record has; anything else on a record was given by the caller as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# These never reach a log, whoever passes them.
SECRET_FIELDS = frozenset(
    {"password", "passwd", "secret", "secret_key", "access_key", "token", "authorization", "dsn"}
)
_MASK = "***"

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: ts, level, logger, message, the extra fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        line: dict[str, object] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in extra_fields(record).items():
            # A field never replaces one of the four above.
            line[f"field_{name}" if name in line else name] = value
        exception = _exception_text(record)
        if exception:
            line["exception"] = exception
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """A record as a line that a person reads on a terminal."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with the traceback on lines of its own."""
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = self._paint(f"{record.levelname.lower():<7}", _COLOURS.get(record.levelname, "0"))
        name = self._paint(record.name.removeprefix("mailserver."), "2")
        fields = " ".join(
            f"{self._paint(name, '36')}={_shown(value)}"
            for name, value in extra_fields(record).items()
        )
        line = f"{time} {level} {name}: {_printable(record.getMessage())}"
        if fields:
            line += f"  {fields}"
        exception = _exception_text(record)
        return f"{line}\n{exception}" if exception else line

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text


def configure(chosen: Format = "auto", level: str = "info", worker: int | None = None) -> None:
    """Send every log line of the process to standard output as JSON or to standard error as text.

    `auto` is text when standard error is a terminal. Lines say the number of the `worker`.
    """
    if chosen == "auto":
        chosen = "text" if sys.stderr.isatty() else "json"
    stream: TextIO = sys.stdout if chosen == "json" else sys.stderr
    handler = logging.StreamHandler(stream)
    formatter = JsonFormatter() if chosen == "json" else TextFormatter(stream.isatty())
    handler.setFormatter(formatter)
    if worker is not None:
        handler.addFilter(_numbered(worker))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    # These tell of every start and request at level info.
    for name in ("uvicorn", "uvicorn.error", "aiosmtpd", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    # A handler that cannot write (closed pipe, full disk) must not stop the mail.
    logging.raiseExceptions = False


def _numbered(worker: int) -> Callable[[logging.LogRecord], bool]:
    def number(record: logging.LogRecord) -> bool:
        record.worker = worker
        return True

    return number


def extra_fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what was given as `extra`, secrets masked."""
    return {
        name: _MASK if name.lower() in SECRET_FIELDS else value
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def _timestamp(created: float) -> str:
    text = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _exception_text(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(record.exc_info[1])).rstrip()


def _shown(value: object) -> str:
    text = _printable(str(value))
    return text if text and " " not in text else f'"{text}"'


def _printable(text: str) -> str:
    """Escape control characters: what a peer sent must not move the cursor or forge a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
