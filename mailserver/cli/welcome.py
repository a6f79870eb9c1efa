"""What `mailserver dev` prints: what is where, and what to try.

A program of its own, `python -m mailserver.cli.welcome DIR`, started by the server: so the server
never loads what draws tables.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mailserver.app.presence import DOCUMENT

MBSYNC = "mbsyncrc"

PURPOSES = {
    "smtp": "mail from other servers",
    "submission": "clients send, STARTTLS",
    "submissions": "clients send, TLS",
    "lmtp": "mail from a server in front",
    "relay": "programs beside this server send",
    "imap": "clients read, STARTTLS",
    "imaps": "clients read, TLS",
    "http": "JMAP, /healthz /readyz /metrics",
    "https": "the same with TLS",
}


@dataclass(frozen=True, slots=True)
class Try:
    """One thing to try: what it does and a line for a shell."""

    purpose: str
    line: str


def main(arguments: Sequence[str]) -> int:
    """Print the welcome for a data directory and write the files that its lines name."""
    directory = Path(arguments[0])
    document: dict[str, Any] = orjson.loads((directory / DOCUMENT).read_bytes())
    write_mbsync(directory, document)
    tries = things_to_try(directory, document)
    if sys.stdout.isatty():
        _print_pretty(document, tries)
    else:
        sys.stdout.write(plain(document, tries))
    sys.stdout.flush()
    return 0


def things_to_try(directory: Path, document: Mapping[str, Any]) -> list[Try]:
    """Return lines that work when they are pasted into a shell."""
    listeners, ca = document["listeners"], document["ca"]
    alice, bob = document["accounts"][:2]
    login, password = alice["login"], alice["password"]
    smtp_host, smtp_port = listeners["smtp"]
    host, port = listeners["submission"]
    imap_host, imap_port = listeners["imaps"]
    jmap = document["jmap_url"]
    using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"]
    call = orjson.dumps(
        {"using": using, "methodCalls": [["Core/echo", {"hello": True}, "0"]]}
    ).decode()
    curl = ("curl", "-sS", "-u", f"{login}:{password}")
    api = jmap.replace("/.well-known/jmap", "/jmap/api")
    return [
        Try(
            "mail arrives from elsewhere",
            _shell(
                *("swaks", "--server", f"{smtp_host}:{smtp_port}"),
                *("--from", "carol@example.org", "--to", login),
            ),
        ),
        Try(
            f"{login} writes to {bob['login']}",
            _shell(
                *("swaks", "--server", f"{host}:{port}", "--tls", "--auth", "PLAIN"),
                *("--auth-user", login, "--auth-password", password),
                *("--from", login, "--to", bob["login"]),
            ),
        ),
        Try(
            "fetch it all into a Maildir",
            _shell("mkdir", "-p", str(directory / "Maildir"))
            + " && "
            + _shell("mbsync", "-c", str(directory / MBSYNC), "-a"),
        ),
        Try(
            "list the mailboxes by IMAP",
            _shell(*curl, "--cacert", ca, f"imaps://{imap_host}:{imap_port}/"),
        ),
        Try("the JMAP session", _shell(*curl, jmap)),
        Try(
            "a JMAP call",
            _shell(*curl, "-H", "Content-Type: application/json", "-d", call, api),
        ),
    ]


def mbsync_configuration(directory: Path, document: Mapping[str, Any]) -> str:
    """Return the configuration of isync that pulls the first account into a Maildir."""
    # QUIRK(mbsync): 1.4 knows only SSLType; 1.5 calls it TLSType and still takes the old name. It
    # compares the host with the DNS names of a certificate only, never with its addresses.
    host, port = document["listeners"]["imaps"]
    account = document["accounts"][0]
    host = "localhost" if host == "127.0.0.1" else host
    maildir = directory / "Maildir"
    return f"""\
IMAPAccount dev
Host {host}
Port {port}
User {account["login"]}
Pass "{account["password"]}"
SSLType IMAPS
CertificateFile "{document["ca"]}"

IMAPStore far
Account dev

MaildirStore near
Path "{maildir}/"
Inbox "{maildir}/INBOX"
SubFolders Verbatim

Channel mail
Far :far:
Near :near:
Patterns *
Create Near
SyncState *
"""


def write_mbsync(directory: Path, document: Mapping[str, Any]) -> None:
    """Write that configuration; it holds a password, so it is for its owner only."""
    if not document["accounts"]:
        return
    descriptor = os.open(directory / MBSYNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(mbsync_configuration(directory, document))


def plain(document: Mapping[str, Any], tries: Sequence[Try]) -> str:
    """Return the welcome as text without any escape sequence."""
    lines = ["mailserver is ready; Ctrl-C stops it and everything it started", ""]
    for name, (host, port) in document["listeners"].items():
        lines.append(f"  {name:<12} {host}:{port:<6} {PURPOSES[name]}")
    lines.append("")
    lines += [
        f"  account      {account['login']}  password {account['password']}"
        for account in document["accounts"]
    ]
    lines += [f"  CA           {document['ca']}", f"  JMAP         {document['jmap_url']}", ""]
    lines.append("Try, in another terminal:")
    for one in tries:
        lines += ["", f"  # {one.purpose}", f"  {one.line}"]
    lines += ["", "Mail to other domains is caught: it is kept in the queue and never sent.", ""]
    return "\n".join(lines)


def _print_pretty(document: Mapping[str, Any], tries: Sequence[Try]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print("\n[bold green]mailserver is ready[/]; Ctrl-C stops it and all it started\n")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("listener", "address", "for"):
        table.add_column(column)
    for name, (host, port) in document["listeners"].items():
        table.add_row(name, f"{host}:{port}", PURPOSES[name])
    console.print(table)
    people = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in ("account", "password"):
        people.add_column(column)
    for account in document["accounts"]:
        people.add_row(account["login"], Text(account["password"]))
    console.print()
    console.print(people)
    console.print(f"\n[bold]CA[/]    {document['ca']}\n[bold]JMAP[/]  {document['jmap_url']}\n")
    console.print("[bold]Try, in another terminal[/]")
    for one in tries:
        console.print(f"\n[dim]# {one.purpose}[/]")
        # Neither wrapped nor cropped: the line must survive being copied.
        console.print(Text(one.line), soft_wrap=True)
    console.print("\nMail to other domains is caught: it is kept in the queue and never sent.\n")


def _shell(*words: str) -> str:
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
