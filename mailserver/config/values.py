"""What sections of the configuration are made of: secrets, and values that are checked."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from mailserver.errors import Invalid
from mailserver.networks import Networks

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class Secret(SecretStr):
    """A value that is never shown, and the file that has its newest version, if any."""

    def __init__(self, value: str, path: Path | None = None) -> None:
        super().__init__(value)
        self.path = path

    @classmethod
    def from_file(cls, path: Path) -> "Secret":
        """Read a secret from a file, without the line end that editors put there."""
        return cls(path.read_text(encoding="utf-8").strip(), path)

    def current(self) -> str:
        """Return the value as it is now: credentials in a file may be renewed every hour."""
        if self.path is None:
            return self.get_secret_value()
        return self.path.read_text(encoding="utf-8").strip()


def is_private_url(url: str) -> bool:
    """Tell whether nobody on the way can read or change what is fetched from a URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    on_this_machine = host in ("localhost", "127.0.0.1", "::1")
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and on_this_machine))


def networks(text: str) -> str:
    """Check the words of a key that are networks; ValueError names the one that is none."""
    try:
        Networks(text)
    except Invalid as error:
        raise ValueError(str(error)) from None
    return text


def host_name(text: str) -> str:
    """Check a key that is a host name as DNS has it: it goes into replies and header fields."""
    if text and (len(text) > 253 or not _HOST_NAME.fullmatch(text)):
        raise ValueError("should be a host name, as mail.example.org")
    return text


class Section(BaseModel):
    """A table of the configuration file; a key nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
