"""Dovecot of the system as a peer: a configuration of its own, in a folder that goes away.

mdbox, one password for every login, no system configuration and no system files. As root the mail
belongs to `nobody`; Dovecot's own users are those of its package.
"""

import contextlib
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.smtp_delivery import tree

PROGRAM = shutil.which("dovecot") or "/usr/sbin/dovecot"
START_TIMEOUT = 60.0  # seconds
STARTS = 5  # attempts: a port that was free may be taken meanwhile
CONFIGURATION = """
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_cache_size = 4M
mail_location = mdbox:{home}/mail/%u
mail_home = {home}/homes/%u
mail_uid = {owner}
mail_gid = {group}
first_valid_uid = 0
first_valid_gid = 0
mail_fsync = optimized
mail_plugins = quota acl notify
default_process_limit = 2000
default_client_limit = 20000
{users}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={home}/homes/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  service_count = 0
  client_limit = 2000
  process_min_avail = 1
  {chroot}
  inet_listener imap {{
    port = {plain}
  }}
  inet_listener imaps {{
    port = {secure}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 2000
}}
protocol imap {{
  mail_max_userip_connections = 2000
}}
"""


class Dovecot:
    """Where a running Dovecot listens."""

    def __init__(self, pid: int, plain: int, secure: int) -> None:
        self.pid = pid
        self.plain = plain
        self.secure = secure


def installed() -> bool:
    return os.access(PROGRAM, os.X_OK)


@contextlib.contextmanager
def running(home: Path, password: str, certificate: Path, key: Path) -> Iterator[Dovecot]:
    """Run Dovecot below `home`; any login with the password is a user."""
    owner = pwd.getpwnam("nobody" if os.getuid() == 0 else getpass.getuser())
    alone = ""
    if os.getuid() != 0:  # everything as the one who runs it, without changing the root
        alone = f"default_internal_user = {owner.pw_name}\ndefault_login_user = {owner.pw_name}"
    for name in ("mail", "homes"):
        (home / name).mkdir(parents=True, exist_ok=True)
        os.chown(home / name, owner.pw_uid, owner.pw_gid)
    file = home / "dovecot.conf"
    for attempt in range(STARTS):
        plain, secure = _free_port(), _free_port()
        file.write_text(
            CONFIGURATION.format(
                home=home, certificate=certificate, key=key, owner=owner.pw_uid,
                group=owner.pw_gid, password=password, plain=plain, secure=secure, users=alone,
                chroot="chroot =" if alone else "",
            )
        )  # fmt: skip
        process = subprocess.Popen([PROGRAM, "-F", "-c", str(file)])
        try:
            _wait(process, plain, home / "log")
        except BaseException as error:
            _stop(process)
            if attempt == STARTS - 1 or not isinstance(error, RuntimeError):
                raise
        else:
            break
    try:
        yield Dovecot(process.pid, plain, secure)
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        for pid in reversed(tree(process.pid)):
            os.kill(pid, 9)
        process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=10) as probe,
        ):
            if probe.recv(1):  # it is greeted when all ports could be had
                return
        time.sleep(0.05)
    text = log.read_text(errors="replace")[-4000:] if log.exists() else ""
    raise RuntimeError(f"Dovecot did not start\n{text}")
