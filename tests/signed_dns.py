"""A real DNS on loopback: nsd with a signed zone, and unbound, which checks the signatures.

`tests/data/dns` has the zones. Nothing leaves the machine: whatever else is asked does not exist.
"""

import asyncio
import base64
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.running import free_port

DATA = Path(__file__).parent / "data" / "dns"
FORGED = {"as-signed": "as-forged", "198.51.100.1": "198.51.100.2"}
PROGRAMS = ("nsd", "unbound", "ldns-keygen", "ldns-signzone")  # of tests/clients.sh
SEARCHED = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
STARTS = 120.0  # seconds for a server to say that it is there

NSD = """\
server:
    ip-address: 127.0.0.1@{port}
    zonesdir: "{folder}"
    database: ""
    pidfile: ""
    xfrdfile: ""
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    username: ""
    chroot: ""
    verbosity: 1
    server-count: 1
remote-control:
    control-enable: no
"""
NSD_ZONE = """\
zone:
    name: "{name}"
    zonefile: "{file}"
"""
UNBOUND = """\
server:
    interface: 127.0.0.1@{port}
    access-control: 127.0.0.0/8 allow
    directory: "{folder}"
    pidfile: ""
    username: ""
    chroot: ""
    use-syslog: no
    logfile: ""
    verbosity: 1
    num-threads: 1
    msg-cache-size: 1m
    rrset-cache-size: 1m
    do-ip6: no
    do-not-query-localhost: no
    outgoing-range: 256
    module-config: "validator iterator"
    trust-anchor-file: "{anchor}"
    qname-minimisation: no
    prefetch: no
    ede: yes
    local-zone: "." static
    local-zone: "127.in-addr.arpa." nodefault
    local-zone: "127.in-addr.arpa." transparent
    local-zone: "test." transparent
remote-control:
    control-enable: no
"""
UNBOUND_ZONE = """\
stub-zone:
    name: "{name}"
    stub-addr: 127.0.0.1@{port}
"""
UNSIGNED = """\
$ORIGIN {name}.
$TTL 3600
@  SOA ns hostmaster 1 3600 600 86400 60
@  NS  ns
ns A   127.0.0.1
"""


@dataclass
class SignedDns:
    """Both servers. `further` is added to the zone; of `forged`, texts change once it is signed.

    `unsigned` has zones without signatures, by name; `further` delegates to those below `test.`.
    """

    folder: Path
    further: str = ""
    forged: Mapping[str, str] = field(default_factory=dict)
    unsigned: Mapping[str, str] = field(default_factory=dict)
    port: int = 0  # of unbound, which a mail server asks
    authority: int = 0  # of nsd
    rsa_key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )  # selector "rsa" of example.test
    ed25519_key: Ed25519PrivateKey = field(
        default_factory=Ed25519PrivateKey.generate
    )  # selector "ed25519"
    _processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def server(self) -> str:
        """Return the resolver in the form of the key dns.servers."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Sign the zone and start the servers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        anchor = await self._sign()
        self.port, self.authority = free_port(), free_port()
        zones = {"test": "test.signed"}
        for name in ("insecure.test", "127.in-addr.arpa"):
            zones[name] = str(DATA / f"{name}.zone")
        for name, text in self.unsigned.items():
            (self.folder / f"{name}.zone").write_text(UNSIGNED.format(name=name) + text)
            zones[name] = f"{name}.zone"
        nsd = NSD.format(port=self.authority, folder=self.folder)
        unbound = UNBOUND.format(port=self.port, folder=self.folder, anchor=anchor)
        for name, file in zones.items():
            nsd += NSD_ZONE.format(name=name, file=file)
            unbound += UNBOUND_ZONE.format(name=name, port=self.authority)
        (self.folder / "nsd.conf").write_text(nsd)
        (self.folder / "unbound.conf").write_text(unbound)
        await self._serve("nsd started", "nsd", "-d", "-c", str(self.folder / "nsd.conf"))
        await self._serve(
            "start of service", "unbound", "-d", "-p", "-c", str(self.folder / "unbound.conf")
        )

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
            await process.wait()
        await asyncio.gather(*self._readers)

    async def _sign(self) -> Path:
        """Make keys and the signed zone, and return the file with the trust anchor."""
        text = (DATA / "test.zone").read_text().format_map(self._texts())
        (self.folder / "test.zone").write_text(f"{text}\n{self.further}\n")
        keys = [
            await self._run("ldns-keygen", "-a", "ECDSAP256SHA256", *kind, "test")
            for kind in (["-k"], [])
        ]
        await self._run("ldns-signzone", "-f", "test.signed", "-o", "test.", "test.zone", *keys)
        signed = self.folder / "test.signed"
        text = signed.read_text()
        for old, new in {**FORGED, **self.forged}.items():
            if old not in text:
                raise ValueError(f"the zone has no {old}")
            text = text.replace(old, new)
        signed.write_text(text)
        return self.folder / f"{keys[0]}.ds"

    def _texts(self) -> dict[str, str]:
        rsa_public = self.rsa_key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        ed25519_public = self.ed25519_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {
            "rsa": strings(f"v=DKIM1; k=rsa; p={base64.b64encode(rsa_public).decode()}"),
            "ed25519": strings(
                f"v=DKIM1; k=ed25519; p={base64.b64encode(ed25519_public).decode()}"
            ),
            "long": strings("much too long for a datagram; " * 150),
        }

    async def _run(self, program: str, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            find(program),
            *arguments,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{program}: {err.decode()}")
        return out.decode().strip()

    async def _serve(self, sign: str, program: str, *arguments: str) -> None:
        """Start a server that ends when this process does; wait until it says that it is there."""
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "TERM", "--", find(program)),
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._processes.append(process)
        stream = process.stderr
        assert stream is not None
        said = b""
        async with asyncio.timeout(STARTS):
            while sign.encode() not in said:
                line = await stream.readline()
                if not line:
                    raise RuntimeError(f"{program} does not start: {said.decode()}")
                said += line
        self._readers.append(asyncio.create_task(_drain(stream)))


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def find(program: str) -> str:
    """Return where a program is; servers are not in the path of everybody."""
    found = shutil.which(program) or shutil.which(program, path=SEARCHED)
    if found is None:
        raise FileNotFoundError(f"{program}: run tests/clients.sh")
    return found


def strings(text: str) -> str:
    """Return a long text as the strings of a TXT record."""
    pieces: Sequence[str] = [text[start : start + 255] for start in range(0, len(text), 255)]
    return " ".join(f'"{piece}"' for piece in pieces)
