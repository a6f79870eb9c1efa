"""Secrets that are made for people, and for this machine."""

import secrets
import string
from pathlib import Path

from mailserver.app.presence import write_private
from mailserver.config import Config, Secret

ALPHABET = string.ascii_letters + string.digits  # nothing that a shell or a URL reads otherwise
LENGTH = 20  # 119 bits


def make_password() -> str:
    """Return a new password that nobody can guess."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def sealing_key(directory: Path) -> Secret:
    """Return the key that seals secrets in a data directory; it is made when first asked for."""
    path = directory / "secret.key"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32).encode())
    return Secret.from_file(path)


def with_key(config: Config, directory: Path) -> Config:
    """Return the configuration with the key of a data directory, unless it has one itself."""
    if config.server.secret_key.get_secret_value():
        return config
    server = config.server.model_copy(update={"secret_key": sealing_key(directory)})
    return config.model_copy(update={"server": server})
