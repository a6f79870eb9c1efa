"""Filters and scanners of Debian, each a process on loopback with a folder of its own."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.running import free_port

START_TIMEOUT = 120.0  # seconds; the machine may be busy
LOOK = 0.05  # seconds between two attempts to connect
PATH = "/usr/sbin:/sbin:" + os.environ.get("PATH", "")


class Program:
    """One process that listens on a port or a socket; `address` is how engines write that."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Write what the program needs into its folder; return how it is started."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start it and wait until it accepts."""
        command = self.command()
        program = shutil.which(command[0], path=PATH)
        assert program is not None, f"{command[0]} is missing; tests/clients.sh installs it"
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                # ends with the tests, also when those are killed
                ["setpriv", "--pdeathsig", "TERM", "--", program, *command[1:]],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.directory, env={"PATH": PATH, "LANG": "C"}, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(START_TIMEOUT):
            while not await self._accepts():
                assert self._process.poll() is None, self.output()
                await asyncio.sleep(LOOK)

    async def _accepts(self) -> bool:
        with contextlib.suppress(OSError):
            if self.address.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(self.address[5:])
            else:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False

    def output(self) -> str:
        """Return what it printed."""
        return (self.directory / "output").read_text(errors="replace")

    async def stop(self) -> None:
        """End it, and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            await asyncio.to_thread(process.wait)

    def write(self, files: Mapping[str, str]) -> None:
        """Put files into its folder."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


class SpamdProgram(Program):
    """SpamAssassin without network tests."""

    def command(self) -> list[str]:
        return [
            "spamd", "-L", "-x", "-i", "127.0.0.1", "-p", str(self.port), "-s", "stderr",
            "--max-children", "1", "-u", "nobody",
        ]  # fmt: skip


class RspamdProgram(Program):
    """rspamd with its rules, and DNS that never answers."""

    def command(self) -> list[str]:
        self.write(
            {
                "rspamd.conf": f"""
                    .include "$CONFDIR/common.conf"
                    options {{
                        pidfile = "$RUNDIR/rspamd.pid";
                        disable_hyperscan = true;  # it compiles for a minute
                        filters = "chartable,dkim,regexp";
                        url_tld = "{self.directory}/suffixes";
                        tempdir = "{self.directory}";
                        dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
                        .include(try=true) "{self.directory}/options.inc"
                    }}
                    logging {{ type = "console"; level = "warning"; }}
                    worker "normal" {{ bind_socket = "{self.address}"; count = 1; }}
                """,
                "suffixes": "com\norg\ntest\n",
                "local/override.d/fuzzy_check.conf": "enabled = false;",
            }
        )
        for folder in ("db", "run", "log"):
            (self.directory / folder).mkdir(exist_ok=True)
        here = str(self.directory)
        variables = {"DBDIR": "db", "RUNDIR": "run", "LOGDIR": "log", "LOCAL_CONFDIR": "local"}
        return [
            "rspamd", "-f", "-i", "-c", f"{here}/rspamd.conf",
            *(f"--var={name}={here}/{folder}" for name, folder in variables.items()),
        ]  # fmt: skip


# ClamAV needs some database: these two are made here, nothing is downloaded.
SIGNATURES = {
    "db/tests.ndb": "Tests.Letter:0:*:" + b"this letter is a virus".hex() + "\n",
    "db/tests.hdb": "d41d8cd98f00b204e9800998ecf8427f:1:Tests.Nothing\n",
}
VIRUS = b"Hello,\r\nthis letter is a virus.\r\n"


class ClamdProgram(Program):
    """clamd with a signature of the tests, and room for messages of a megabyte."""

    def __init__(self, directory: Path, *, socket: bool = False) -> None:
        super().__init__(directory)
        if socket:
            self.address = f"unix:{directory}/socket"

    def command(self) -> list[str]:
        listen = f"TCPSocket {self.port}\nTCPAddr 127.0.0.1"
        if self.address.startswith("unix:"):
            listen = f"LocalSocket {self.address[5:]}"
        self.write(
            {
                **SIGNATURES,
                "clamd.conf": f"""{listen}
Foreground yes
DatabaseDirectory {self.directory}/db
TemporaryDirectory {self.directory}
StreamMaxLength 1M
MaxThreads 2
""",
            }
        )
        return ["clamd", "-c", f"{self.directory}/clamd.conf"]


class IcapProgram(Program):
    """c-icap with its virus scanner, which asks a clamd, and its service that echoes."""

    def __init__(self, directory: Path, clamd: str) -> None:
        super().__init__(directory)
        self._clamd = clamd.removeprefix("unix:")

    def command(self) -> list[str]:
        modules = next(Path("/usr/lib").glob("*/c_icap"), Path("/usr/lib/c_icap"))
        here = self.directory
        self.write(
            {
                "c-icap.conf": f"""PidFile {here}/pid
CommandsSocket {here}/control
Port {self.address}
StartServers 1
MaxServers 2
ThreadsPerChild 10
ServerName tests
TmpDir {here}
ModulesDir {modules}
ServicesDir {modules}
TemplateDir /usr/share/c_icap/templates/
LoadMagicFile /etc/c-icap/c-icap.magic
ServerLog {here}/server.log
AccessLog {here}/access.log
Service echo srv_echo.so
Service antivirus_module virus_scan.so
ServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE
virus_scan.MaxObjectSize 5M
Module common clamd_mod.so
clamd_mod.ClamdSocket {self._clamd}
"""
            }
        )
        return ["c-icap", "-N", "-D", "-f", f"{here}/c-icap.conf"]


class OpendkimProgram(Program):
    """opendkim as a verifying milter that asks a file for keys; it refuses broken signatures."""

    def command(self) -> list[str]:
        self.write(
            {
                "opendkim.conf": f"""Mode v
Socket inet:{self.port}@127.0.0.1
Background no
Syslog yes
PidFile {self.directory}/pid
AuthservID filter.example.test
AlwaysAddARHeader yes
TestDNSData {self.directory}/keys
On-BadSignature reject
"""
            }
        )
        if not (self.directory / "keys").exists():
            self.write({"keys": ""})
        return ["opendkim", "-f", "-x", f"{self.directory}/opendkim.conf"]
