import asyncio
import imaplib
import mailbox
import smtplib
import ssl
from pathlib import Path

import asyncpg
import pytest

from tests import oidc
from tests.integration.program.conftest import PATIENCE, Program, Start, command, start_dev
from tests.running import free_port

ALICE = "alice@example.test"
BOB = "bob@example.test"


@pytest.fixture(scope="module")
def dev(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A development server for all commands of this file."""
    return start_dev(start, tmp_path_factory.mktemp("dev"))[0]


@pytest.fixture
def there(dev: Program) -> tuple[str, ...]:
    """The options that make a command work on that server, with JSON."""
    return ("--data-dir", str(dev.directory), "--json")


def test_domains(there: tuple[str, ...]) -> None:
    added = command("domain", "add", "Example.ORG", *there).json
    assert added["domain"] == "example.org"
    assert len(added["selectors"]) == 2  # RSA and Ed25519
    again = command("domain", "add", "example.org", *there)
    assert (again.code, again.json["error"]) == (1, "AlreadyExists")
    assert command("domain", "list", *there).json == [
        {"domain": "example.org"},
        {"domain": "example.test"},
    ]
    assert command("domain", "add", "no domain", *there).code == 1


async def test_commands_keep_no_node_number(dev: Program, there: tuple[str, ...]) -> None:
    assert command("domain", "list", *there).code == 0
    assert command("domain", "add", "no domain", *there).code == 1
    connection = await asyncpg.connect(dev.document["database_url"])
    try:
        owners = await connection.fetch("SELECT owner FROM lease WHERE name LIKE 'node %'")
    finally:
        await connection.close()
    assert len(owners) == 1  # the server's


def test_accounts_and_passwords(dev: Program, there: tuple[str, ...]) -> None:
    made = command(
        "account", "add", "Carol@example.test", "--name", "Carol", "--quota", "10M", *there
    )
    assert made.json["login"] == "carol@example.test"
    assert len(made.json["password"]) >= 15
    given = ("--password-stdin", *there)
    changed = command("account", "passwd", "carol@example.test", *given, stdin="new secret\n")
    assert (changed.code, changed.json) == (0, {"login": "carol@example.test"})
    assert "new secret" not in changed.output + changed.errors
    (carol,) = [
        account
        for account in command("account", "list", *there).json
        if account["login"] == "carol@example.test"
    ]
    assert (carol["name"], carol["quota"], carol["used"]) == ("Carol", 10 << 20, 0)
    assert command("account", "add", "carol@example.test", *there).code == 1
    assert command("account", "add", "carol@elsewhere.test", *there).json["error"] == "NotFound"
    assert command("account", "passwd", "nobody@example.test", *there).code == 1
    assert command("account", "passwd", ALICE, *given, stdin="").json["error"] == "Invalid"


def test_aliases(there: tuple[str, ...]) -> None:
    assert command("alias", "add", "sales@example.test", ALICE, *there).code == 0
    assert command("alias", "add", "sales@example.test", ALICE, *there).code == 1
    assert {"address": "sales@example.test", "login": ALICE} in command(
        "alias", "list", *there
    ).json


def test_an_account_is_disabled_deleted_and_removed(dev: Program, there: tuple[str, ...]) -> None:
    login = "leaver@example.test"
    made = command("account", "add", login, "--generate", *there).json

    def state() -> dict[str, object]:
        (found,) = [row for row in command("account", "list", *there).json if row["login"] == login]
        return {name: found[name] for name in ("state", "mail")}

    def log_in() -> imaplib.IMAP4_SSL:
        host, port = dev.document["listeners"]["imaps"]
        context = ssl.create_default_context(cafile=dev.document["ca"])
        client = imaplib.IMAP4_SSL(host, port, ssl_context=context, timeout=PATIENCE)
        try:
            client.login(login, made["password"])
        except imaplib.IMAP4.error:
            client.shutdown()
            raise
        return client

    def log_in_until_refused() -> None:
        while True:  # a password that was right counts for a second more
            log_in().logout()

    def recipient() -> tuple[int, bytes]:
        host, port = dev.document["listeners"]["smtp"]
        with smtplib.SMTP(host, port, timeout=PATIENCE) as client:
            client.ehlo("client.example.test")
            client.mail("bob@example.test")
            return client.rcpt(login)

    client = log_in()
    assert state() == {"state": "enabled", "mail": "taken"}
    disabled = command("account", "disable", login, *there)
    assert (disabled.code, disabled.json["state"]) == (0, "disabled")
    # another process than the command's: the session ends, though nobody said anything in it
    assert b"The account is disabled" in client.readline()
    client.shutdown()
    with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        log_in_until_refused()
    assert recipient()[0] == 250
    assert command("account", "disable", login, "--refuse-mail", *there).code == 0
    assert state() == {"state": "disabled", "mail": "refused"}
    assert command("account", "enable", login, *there).code == 0
    log_in().logout()

    unasked = command("account", "delete", login, *there)
    assert (unasked.code, unasked.json["error"]) == (1, "Forbidden")
    deleted = command("account", "delete", login, "--yes", *there)
    assert deleted.json["removed"] is not None
    assert state() == {"state": "deleted", "mail": "refused"}
    wrong = command("account", "enable", login, *there)
    assert (wrong.code, wrong.json["error"]) == (1, "InUse")
    assert command("account", "delete", login, "--yes", *there).code == 0
    assert command("account", "restore", login, *there).json["state"] == "disabled"
    gone = command("account", "delete", login, "--yes", "--after", "0d", *there)
    assert gone.code == 0, gone.errors
    again = command("account", "delete", login, "--yes", *there)
    assert (again.code, again.json["error"]) == (1, "NotFound")
    assert again.json["text"] == f"there is no account {login}"
    assert command("account", "restore", login, *there).code == 1


def test_addresses_and_domains_go(there: tuple[str, ...]) -> None:
    assert command("domain", "add", "going.test", *there).code == 0
    assert command("account", "add", "old@going.test", "--generate", *there).code == 0
    renamed = command("account", "rename", "old@going.test", "new@going.test", *there)
    assert renamed.json == {"login": "new@going.test"}
    assert {"address": "old@going.test", "login": "new@going.test"} in command(
        "alias", "list", *there
    ).json
    kept = command("domain", "remove", "going.test", *there)
    assert (kept.code, kept.json["error"]) == (1, "InUse")
    assert kept.json["text"] == "going.test still has new@going.test, old@going.test"
    login = command("alias", "remove", "new@going.test", "new@going.test", *there)
    assert login.json["error"] == "InUse"
    assert command("alias", "remove", "old@going.test", "new@going.test", *there).code == 0
    again = command("alias", "remove", "old@going.test", "new@going.test", *there)
    assert again.json["error"] == "NotFound"
    moved = command("account", "rename", "new@going.test", "moved@example.test", "--drop", *there)
    assert moved.code == 0
    assert command("domain", "remove", "going.test", *there).code == 0
    assert {"domain": "going.test"} not in command("domain", "list", *there).json


def test_shared_mailboxes(there: tuple[str, ...]) -> None:
    def share(*words: str) -> int:
        return command("mailbox", "share", ALICE, *words, *there).code

    assert share("Sent", BOB, "lr") == 0
    assert share("Sent", BOB, "+s") == 0
    assert share("Sent", "anyone", "w", "--negative") == 0
    assert command("mailbox", "acl", ALICE, *there).json == [
        {"mailbox": "Sent", "who": BOB, "rights": "lrs"},
        {"mailbox": "Sent", "who": "-anyone", "rights": "w"},
    ]
    wrong = command("mailbox", "share", ALICE, "Sent", BOB, "lq", *there)
    assert (wrong.code, wrong.json["error"]) == (1, "Invalid")
    assert share("Sent", "nobody@example.test", "l") == 1
    assert share("Nowhere", BOB, "l") == 1
    assert command("mailbox", "unshare", ALICE, "Sent", BOB, *there).code == 0
    assert command("mailbox", "unshare", ALICE, "Sent", "anyone", "--negative", *there).code == 0
    assert command("mailbox", "acl", ALICE, *there).json == []


def test_accounts_from_a_file(tmp_path: Path, there: tuple[str, ...]) -> None:
    file = tmp_path / "people.csv"
    rows = [f"p{number}@example.test,P {number},secret{number},,\n" for number in range(200)]
    rows += ["dave@example.test,Dave,,5M,d1@example.test d2@example.test\n"]
    rows += ["erin@example.test,Erin,x,,e1@example.test d1@elsewhere.test\n", f"{ALICE},,x,,\n"]
    file.write_text("login,name,password,quota,aliases\n" + "".join(rows))
    outcome = command("account", "import", str(file), *there)
    assert outcome.code == 1
    by_login = {entry["login"]: entry for entry in outcome.json}
    assert len(by_login) == 203
    assert by_login["erin@example.test"]["error"]
    assert by_login[ALICE]["error"]
    assert by_login["dave@example.test"]["error"] is None
    assert by_login["dave@example.test"]["password"]
    assert by_login["p7@example.test"]["password"] is None
    logins = {account["login"] for account in command("account", "list", *there).json}
    assert {"p0@example.test", "p199@example.test", "dave@example.test"} <= logins
    assert "erin@example.test" not in logins
    aliases = {row["address"]: row["login"] for row in command("alias", "list", *there).json}
    assert aliases["d2@example.test"] == "dave@example.test"
    assert "e1@example.test" not in aliases


@pytest.mark.parametrize("form", ["maildir", "mbox", "eml"])
def test_what_is_imported_is_exported_again(
    form: str, tmp_path: Path, there: tuple[str, ...]
) -> None:
    source = mailbox.Maildir(tmp_path / "source")
    work = source.add_folder("Work.2026")
    for number in range(120):
        message = mailbox.MaildirMessage(f"Subject: {number} {form}\n\nFrom here\nto there\n")
        message.set_flags("FRS"[: number % 4])
        message.set_date(1_700_000_000 + number)
        message.set_subdir("cur")
        (work if number % 3 else source).add(message)
    account = f"{form}@example.test"
    assert command("account", "add", account, *there).code == 0
    imported = command("import", "--account", account, str(tmp_path / "source"), *there)
    assert imported.json["imported"] == 120, imported
    assert imported.json["failures"] == []
    again = command(
        *("import", "--account", account, "--skip-duplicates", str(tmp_path / "source")), *there
    )
    assert (again.json["imported"], again.json["duplicates"]) == (0, 120)

    first, second = tmp_path / "first", tmp_path / "second"
    exported = command("export", "--account", account, "--format", form, str(first), *there)
    assert exported.json["messages"] == 120
    copy = f"{form}-copy@example.test"
    assert command("account", "add", copy, *there).code == 0
    assert command("import", "--account", copy, str(first), *there).json["imported"] == 120
    assert command("export", "--account", copy, "--format", form, str(second), *there).code == 0
    assert contents(first) == contents(second)
    assert sum(len(messages) for messages in contents(first).values()) >= 1
    refused = command("export", "--account", account, "--format", form, str(first), *there)
    assert refused.json["error"] == "AlreadyExists"


def contents(top: Path) -> dict[str, list[tuple[bytes, str, int]]]:
    """Return what an export holds, without the UIDs in the names of files."""
    found: dict[str, list[tuple[bytes, str, int]]] = {}
    for file in sorted(path for path in top.rglob("*") if path.is_file()):
        _, _, flags = file.name.partition(",S=")
        is_message = file.suffix != ".mbox"
        data = file.read_bytes()
        if not is_message:
            found[str(file.relative_to(top))] = sorted(
                (part, "", 0) for part in data.split(b"From MAILER-DAEMON")
            )
            continue
        name = flags or file.name.partition(".")[2]
        entry = (data, name, int(file.stat().st_mtime) if data else 0)
        found.setdefault(str(file.parent.relative_to(top)), []).append(entry)
    return {folder: sorted(messages) for folder, messages in found.items()}


def test_mail_for_one_mailbox(tmp_path: Path, there: tuple[str, ...]) -> None:
    file = tmp_path / "one.eml"
    file.write_bytes(b"Subject: one\n\nbody\n")
    into = ("--account", BOB, "--mailbox", "Lists/Python")
    assert command("import", *into, str(file), *there).json["imported"] == 1
    out = tmp_path / "out"
    assert command("export", *into, "--format", "eml", str(out), *there).json["messages"] == 1
    (exported,) = out.rglob("*.eml")
    assert exported.read_bytes() == b"Subject: one\r\n\r\nbody\r\n"
    assert exported.parent == out / "Lists" / "Python"
    assert command("import", "--account", BOB, str(tmp_path / "none"), *there).code == 1
    missing = ("--account", BOB, "--mailbox", "None", "--format", "eml", str(tmp_path / "x"))
    assert command("export", *missing, *there).json["error"] == "NotFound"


def test_doctor_fsck_and_migrate_find_nothing(there: tuple[str, ...]) -> None:
    doctor = command("doctor", *there)
    assert doctor.code == 0, doctor
    assert {finding["state"] for finding in doctor.json} <= {"ok", "warn"}
    assert {"database", "schema", "s3", "dns", "listener imaps"} <= {
        finding["check"] for finding in doctor.json
    }
    fsck = command("fsck", "--contents", *there)
    assert (fsck.code, fsck.json) == (0, {"ok": True, "differences": []})
    assert command("migrate", "--plan", *there).json == []
    assert command("migrate", *there).json == []


def test_doctor_finds_engines_and_report_addresses_that_are_not_there(
    there: tuple[str, ...],
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    values = {
        "MAILSERVER_ANTISPAM__ENGINES": f'[{{"kind": "clamd", "address": "{nobody}"}}]',
        "MAILSERVER_REPORTS__ADDRESSES": "alice@example.test nobody@example.test",
    }
    doctor = command("doctor", *there, **values)
    assert doctor.code == 1
    found = {(each["check"], each["state"]): each["detail"] for each in doctor.json}
    assert found["engine clamd", "fail"].startswith(f"no clamd answers there: {nobody}: ")
    assert found["reports", "ok"] == "alice@example.test is an address here"
    assert found["reports", "fail"] == "nobody@example.test is nobody's address"
    assert command("reports", "dmarc", "list", *there).json == []
    assert command("reports", "tls", "sessions", *there).json == []
    assert command("reports", "tls", "sent", *there).json == []
    missing = command("reports", "dmarc", "show", "f00000000000000", *there)
    assert (missing.code, missing.json["error"]) == (1, "NotFound")


async def test_doctor_asks_the_issuer(there: tuple[str, ...]) -> None:
    issuer = oidc.Issuer()
    await issuer.start()
    values = {"MAILSERVER_OAUTH__ISSUER": issuer.url, "MAILSERVER_OAUTH__AUDIENCE": "mail"}

    async def found() -> tuple[int, str]:
        doctor = await asyncio.to_thread(lambda: command("doctor", *there, **values))
        (state,) = [one["state"] for one in doctor.json if one["check"] == "issuer"]
        return doctor.code, state

    assert await found() == (0, "ok")
    await issuer.stop()
    assert await found() == (1, "fail")


def test_commands_start_the_services_when_nobody_runs(tmp_path: Path) -> None:
    there = ("--data-dir", str(tmp_path), "--json")
    assert command("domain", "add", "example.test", *there).json["domain"] == "example.test"
    assert command("domain", "list", *there).json == [{"domain": "example.test"}]
    assert not (tmp_path / "dev.json").exists()


def test_where_the_mail_is_must_be_said(tmp_path: Path) -> None:
    outcome = command("domain", "list", "--data-dir", str(tmp_path / "none"))
    assert outcome.code == 3
    assert "no such folder" in outcome.errors
    outcome = command(
        *("domain", "list", "--json"),
        MAILSERVER_DATABASE__URL=f"postgresql:///mail?host={tmp_path}",
    )
    assert (outcome.code, outcome.json["error"]) == (4, "Unavailable")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["domain", "nonsense"], ["domain", "add"], ["dev", "--ports", "x"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    outcome = command(*arguments)
    assert outcome.code == 2
    assert "Usage" in outcome.errors


def test_configuration(tmp_path: Path) -> None:
    file = tmp_path / "mailserver.toml"
    file.write_text("[smtp]\nmax_mesage_size = 5\n")
    for verb in ("check", "show"):
        outcome = command("config", verb, "--config", str(file))
        assert outcome.code == 3
        assert "did you mean smtp.max_message_size?" in outcome.errors
    assert command("serve", "--config", str(file)).code == 3
    file.write_text("[embedded]\nenabled = true\n[s3]\nsecret_key = 'hunter2'\n")
    outcome = command("config", "check", "--config", str(file), "--json")
    assert (outcome.code, outcome.json["ok"]) == (3, False)
    quiet = {
        f"MAILSERVER_LISTENERS__{name}__ENABLED": "false"
        for name in ("SUBMISSIONS", "IMAPS", "HTTPS")
    }
    assert command("config", "check", "--config", str(file), **quiet).output == "ok\n"
    shown = command("config", "show", "--config", str(file), "--json", **quiet)
    rows = {row["key"]: row for row in shown.json}
    assert rows["s3.secret_key"] == {"key": "s3.secret_key", "value": "***", "source": str(file)}
    assert rows["listeners.imaps.enabled"]["source"] == "MAILSERVER_LISTENERS__IMAPS__ENABLED"
    assert rows["smtp.max_recipients"]["source"] == "default"
    assert "hunter2" not in shown.output
