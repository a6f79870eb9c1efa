"""Thunderbird without a screen, told what to do by its remote protocol, Marionette."""

import asyncio
import base64
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.integration.clients import account as accounts
from tests.integration.clients.conftest import Served
from tests.integration.clients.programs import ProgramFailed

TIME_LIMIT = 120.0  # seconds for one step
PREFS = {
    "mail.accountmanager.accounts": "account1,account2",
    "mail.accountmanager.defaultaccount": "account1",
    "mail.accountmanager.localfoldersserver": "server2",
    "mail.account.account1.server": "server1",
    "mail.account.account1.identities": "id1",
    "mail.account.account2.server": "server2",
    "mail.identity.id1.fullName": "Alice",
    "mail.identity.id1.useremail": accounts.LOGIN,
    "mail.identity.id1.smtpServer": "smtp1",
    "mail.identity.id1.valid": True,
    "mail.server.server1.type": "imap",
    "mail.server.server1.hostname": "localhost",
    "mail.server.server1.socketType": 3,  # TLS from the start
    "mail.server.server1.authMethod": 3,  # a password
    "mail.server.server1.userName": accounts.LOGIN,
    "mail.server.server1.name": accounts.LOGIN,
    "mail.server.server1.login_at_startup": False,
    "mail.server.server1.check_new_mail": False,
    "mail.server.server1.using_subscription": True,
    "mail.server.server2.type": "none",
    "mail.server.server2.hostname": "Local Folders",
    "mail.server.server2.userName": "nobody",
    "mail.smtpservers": "smtp1",
    "mail.smtpserver.smtp1.hostname": "localhost",
    "mail.smtpserver.smtp1.try_ssl": 3,
    "mail.smtpserver.smtp1.authMethod": 3,
    "mail.smtpserver.smtp1.username": accounts.LOGIN,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "app.update.enabled": False,
    "app.donation.eoy.version.viewed": 999,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disableIPv6": True,
    "services.settings.server": "http://127.0.0.1:9",
    "extensions.update.enabled": False,
    "messenger.startup.action": 0,
    "marionette.port": 0,
}
# What every step has at hand: the server, its folders by path, and ways to wait.
PRELUDE = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const account = MailServices.accounts.accounts.find(each => each.incomingServer.type == "imap");
const server = account.incomingServer;
const root = server.rootFolder;
const until = condition => Services.tm.spinEventLoopUntil("a test waits", condition);
const folder = path => path.split("/").reduce((at, name) => at.getChildNamed(name), root);
const messages = path => [...folder(path).messages];
const bySubject = (path, subject) => messages(path).find(m => m.mime2DecodedSubject == subject);
const listener = () => {
  const heard = { done: false, status: null };
  heard.QueryInterface = ChromeUtils.generateQI(
    ["nsIUrlListener", "nsIMsgCopyServiceListener", "nsIMsgSendListener"]);
  heard.OnStartRunningUrl = () => {};
  heard.OnStopRunningUrl = (url, status) => { heard.status = status; heard.done = true; };
  heard.onStartCopy = () => {};
  heard.onProgress = () => {};
  heard.setMessageKey = () => {};
  heard.getMessageId = () => null;
  heard.onStopCopy = status => { heard.status = status; heard.done = true; };
  return heard;
};
const finish = heard => { until(() => heard.done); return heard.status; };
const update = path => {
  const heard = listener();
  folder(path).QueryInterface(Ci.nsIMsgImapMailFolder);
  folder(path).updateFolderWithListener(null, heard);
  return finish(heard);
};
"""


class Thunderbird:
    """A running program."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    async def _receive(self) -> Any:
        size = (await self._reader.readuntil(b":"))[:-1]
        return json.loads(await self._reader.readexactly(int(size)))

    async def command(self, name: str, **arguments: Any) -> Any:
        """Send a command of Marionette; return its result."""
        self._number += 1
        octets = json.dumps([0, self._number, name, arguments]).encode()
        self._writer.write(b"%d:%b" % (len(octets), octets))
        async with asyncio.timeout(TIME_LIMIT):
            while True:
                _, number, error, result = await self._receive()
                if number == self._number:
                    break
        if error is not None:
            raise ProgramFailed(f"{name}: {error['message']}\n{error['stacktrace'][:2000]}")
        return result

    async def do(self, script: str, *arguments: Any) -> Any:
        """Run a step in the program itself; return what the script returns."""
        found = await self.command(
            "WebDriver:ExecuteScript", script=PRELUDE + script, args=arguments, newSandbox=True
        )
        return found["value"]


@asynccontextmanager
async def thunderbird(server: Served, home: Path) -> AsyncIterator[Thunderbird]:
    """Start Thunderbird with an account of alice; its wire log is `home`/imap.log."""
    profile = home / "profile"
    profile.mkdir()
    prefs = {
        **PREFS,
        "mail.server.server1.port": server.imaps,
        "mail.smtpserver.smtp1.port": server.submissions,
    }
    (profile / "user.js").write_text(
        "".join(f"user_pref({json.dumps(key)}, {json.dumps(prefs[key])});\n" for key in prefs)
    )
    process = await asyncio.create_subprocess_exec(
        "thunderbird", "--headless", "--marionette", "-remote-allow-system-access",
        "--no-remote", "--profile", profile,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HOME": str(home), "MOZ_LOG": "IMAP:4,sync",
             "MOZ_LOG_FILE": str(home / "imap.log")},
    )  # fmt: skip
    try:
        port = await asyncio.wait_for(_port(process), TIME_LIMIT)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
        program = Thunderbird(reader, writer)
        await program._receive()
        await program.command("WebDriver:NewSession")
        await program.command("WebDriver:SetTimeouts", script=int(TIME_LIMIT * 1000))
        await program.command("Marionette:SetContext", value="chrome")
        certificate = re.sub(r"-----[^-]+-----|\s", "", server.ca.read_text())
        assert base64.b64decode(certificate)
        await program.do(
            """
            const database = Cc["@mozilla.org/security/x509certdb;1"];
            database.getService(Ci.nsIX509CertDB).addCertFromBase64(arguments[0], "C,C,C");
            server.password = arguments[1];
            MailServices.outgoingServer.defaultServer.password = arguments[1];
            """,
            certificate,
            accounts.PASSWORD,
        )
        yield program
        await program.command("Marionette:Quit", flags=["eForceQuit"])
        writer.close()
        await asyncio.wait_for(process.wait(), TIME_LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    said = b""
    while line := await process.stdout.readline():
        said += line
        if found := re.search(rb"Listening on port (\d+)", line):
            return int(found[1])
    raise ProgramFailed(f"thunderbird ended\n{said.decode(errors='replace')}")
