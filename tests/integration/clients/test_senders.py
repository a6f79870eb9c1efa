"""Programs that only send: msmtp and nodemailer, in every way that they log in."""

import email.policy
import json
import shutil
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import pytest
import pytest_asyncio

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests import oidc
from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import install, run

FOLDER = Path(__file__).parent / "nodemailer"


async def received(mail: Mail, account: Account) -> list[EmailMessage]:
    stored = await accounts.contents(mail, account, "INBOX")
    parser = BytesParser(policy=email.policy.default)
    return [parser.parsebytes(each.raw) for each in stored]


@pytest.mark.parametrize("method", ["plain", "login", "scram-sha-256", "oauthbearer", "xoauth2"])
@pytest.mark.parametrize("starttls", [True, False])
async def test_msmtp(
    server: Served,
    mail: Mail,
    alice: Account,
    bob: Account,
    issuer: oidc.Issuer,
    method: str,
    starttls: bool,
) -> None:
    token = method in ("oauthbearer", "xoauth2")
    secret = issuer.token(alice.login) if token else accounts.PASSWORD
    command = [
        *("msmtp", "--host=localhost", f"--from={alice.login}", f"--user={alice.login}"),
        f"--port={server.submission if starttls else server.submissions}",
        *("--tls=on", f"--tls-starttls={'on' if starttls else 'off'}"),
        *(f"--tls-trust-file={server.ca}", f"--auth={method}"),
        f"--passwordeval=printf %s '{secret}'",
        *("--dsn-notify=failure,delay", "--dsn-return=hdrs", "--file=/dev/null"),
    ]
    letter = "To: bob@example.test\nSubject: Grüße\n\n.\nFrom msmtp\n".encode()
    await run([*command, "bob@example.test"], given=letter)
    (found,) = await received(mail, bob)
    assert found["Subject"] == "Grüße"
    assert found["From"] is None or alice.login in found["From"]
    assert found["Date"] is not None
    assert found["Message-ID"] is not None
    assert found.get_payload() == ".\nFrom msmtp\n"
    # and nobody sends as somebody else, nor with a wrong password
    other = [each.replace(f"--from={alice.login}", "--from=bob@example.test") for each in command]
    said = await run([*other, "bob@example.test"], given=letter, codes=(65, 77))
    assert "550" in said or "553" in said


@pytest_asyncio.fixture(scope="session")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the package that it needs."""
    folder = tmp_path_factory.mktemp("nodemailer") / "client"
    shutil.copytree(FOLDER, folder)
    await install(folder)
    return folder


@pytest.mark.parametrize("scenario", ["tls", "starttls", "token", "pool"])
async def test_nodemailer(
    server: Served,
    mail: Mail,
    alice: Account,
    bob: Account,
    issuer: oidc.Issuer,
    folder: Path,
    scenario: str,
) -> None:
    secret = issuer.token(alice.login) if scenario == "token" else accounts.PASSWORD
    port = server.submission if scenario == "starttls" else server.submissions
    said = await run(
        ["node", "client.mjs", scenario, str(port), str(server.ca), alice.login, secret],
        folder=folder,
    )
    answers = json.loads(said)
    count = 20 if scenario == "pool" else 1
    assert [each.get("accepted") for each in answers] == [
        ["bob@example.test", "alice@example.test"]
    ] * count, answers
    assert all(each["response"].startswith("250 2.") for each in answers)
    for account in (bob, alice):
        found = await received(mail, account)
        subjects = {each["Subject"] for each in found}
        assert subjects == {f"Grüße aus Österreich {number}" for number in range(count)}
        for each in found:
            assert each["Bcc"] is None
            assert each["From"].addresses[0].display_name == "Jürgen, von nebenan"
            (attachment,) = each.iter_attachments()
            assert attachment.get_filename() == "Grüße.bin"
            assert attachment.get_content() == bytes(range(256))
            text = each.get_body(("plain",))
            assert text is not None
            assert text.get_content() == "Grün\n.\nFrom here on\n" + "x" * 2000 + "\n"


async def test_nodemailer_is_told_that_it_may_not(
    server: Served, alice: Account, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = await run(
        ["node", "client.mjs", "tls", str(server.submissions), str(server.ca), alice.login, "no"],
        folder=folder,
    )
    assert json.loads(said)[0]["code"] == 535
    warned = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warned == ["authentication"]
    caplog.clear()
