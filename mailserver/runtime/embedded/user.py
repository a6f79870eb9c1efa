"""Which user an embedded service runs as, since PostgreSQL refuses root."""

import os
import pwd
from pathlib import Path

from mailserver.runtime.embedded.process import EmbeddedError, User

NAMES = ("postgres", "nobody")


def service_user(data: Path) -> User | None:
    """Return whom to become: the owner of `data`, else a system user; None when we are not root."""
    if os.geteuid() != 0:
        return None
    if data.exists():
        owner = data.stat()
        if owner.st_uid == 0:
            raise EmbeddedError(
                f"{data} belongs to root, and PostgreSQL does not run as root: "
                "give it to the user that ran it before (chown -R)"
            )
        return User(owner.st_uid, owner.st_gid)
    for name in NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(f"started by root, but there is no user {' or '.join(NAMES)} to run as")
