"""Mail programs and other servers find out about a domain, asked as they ask."""

import asyncio
import json
import plistlib
from xml.etree import ElementTree

import pytest

from tests.integration.jmap.conftest import Site
from tests.unit.mail.test_discovery import LAUGHS, REQUEST

OUTLOOK = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"
AUTODISCOVER = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"


async def curl(site: Site, host: str, path: str, *options: str) -> tuple[int, str, bytes]:
    """Ask with curl, and return status, type and body."""
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--max-time", "60", "--write-out", "\n%{http_code} %{content_type}"),
        *("--resolve", f"{host}:{site.port}:{site.host}", *options),
        f"http://{host}:{site.port}{path}",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    body, _, last = out.rpartition(b"\n")
    code, _, kind = last.decode().partition(" ")
    return int(code), kind, body


async def test_other_servers_find_the_policy_of_a_domain(site: Site) -> None:
    status, kind, body = await curl(site, "mta-sts.example.test", "/.well-known/mta-sts.txt")
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    lines = body.decode().split("\r\n")
    assert lines[:3] == ["version: STSv1", "mode: testing", "mx: mail.example.test"]
    for host in ("example.test", "mta-sts.example.org", "mail.example.test"):
        status, _, _ = await curl(site, host, "/.well-known/mta-sts.txt")
        assert status == 404


@pytest.mark.parametrize(
    ("host", "path"),
    [
        # Thunderbird asks these two, one after the other, also by HTTP
        (
            "autoconfig.example.test",
            "/mail/config-v1.1.xml?emailaddress=alice%40example.test",
        ),
        (
            "example.test",
            "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=alice%40example.test",
        ),
        ("autoconfig.example.test", "/mail/config-v1.1.xml"),  # others have no address
        ("example.test", "/.well-known/autoconfig/mail/config-v1.1.xml"),
        ("autoconfig.example.org", "/mail/config-v1.1.xml?emailaddress=a%2Bb@EXAMPLE.test"),
    ],
)
async def test_thunderbird_finds_its_settings(site: Site, host: str, path: str) -> None:
    status, kind, body = await curl(site, host, path, "-A", "Mozilla/5.0 Thunderbird/128.5.0")
    assert (status, kind) == (200, "text/xml; charset=utf-8")
    found = ElementTree.fromstring(body)
    assert found.findtext("emailProvider/incomingServer/hostname") == "mail.example.test"
    assert found.findtext("emailProvider/domain") == "example.test"


async def test_other_domains_and_odd_addresses_have_no_settings(site: Site) -> None:
    for query in ("bob@example.org", "%00@%0d%0a", "alice@" + "x" * 2000, "@", "%ff%fe@%ff"):
        path = f"/mail/config-v1.1.xml?emailaddress={query}"
        status, _, _ = await curl(site, "autoconfig.example.org", path)
        assert status == 404


async def post(site: Site, body: bytes, path: str = "/autodiscover/autodiscover.xml") -> bytes:
    status, fields, found = await asyncio.to_thread(
        site.ask, "POST", path, body, login=None, headers={"Content-Type": "text/xml"}
    )
    assert status == 200
    assert fields["content-type"] == "text/xml; charset=utf-8"
    return found


async def test_outlook_finds_its_settings(site: Site) -> None:
    for path in ("/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"):
        found = ElementTree.fromstring(await post(site, REQUEST, path))
        types = [each.text for each in found.iter(f"{OUTLOOK}Type")]
        assert types == ["IMAP", "SMTP"]
        assert found.findtext(f".//{OUTLOOK}LoginName") == "alice@example.test"
    path = "/autodiscover/autodiscover.json/v1.0/alice@example.test?Protocol=Autodiscoverv1"
    status, _, body = await curl(site, "example.test", path)
    assert status == 200
    url = json.loads(body)["Url"]
    assert url == "https://mail.example.test/autodiscover/autodiscover.xml"
    status, _, _ = await curl(site, "example.test", path.replace("Autodiscoverv1", "ActiveSync"))
    assert status == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (REQUEST.replace(b"example.test", b"example.org"), "500"),
        (REQUEST.replace(b"alice@", b"alice"), "600"),
        (LAUGHS, "600"),
        (b"<", "600"),
    ],
)
async def test_outlook_is_told_what_is_wrong(site: Site, body: bytes, code: str) -> None:
    found = ElementTree.fromstring(await post(site, body))
    assert found.findtext(f".//{AUTODISCOVER}ErrorCode") == code


async def test_a_request_without_end_is_refused(site: Site) -> None:
    status, _, _ = await asyncio.to_thread(
        site.ask, "POST", "/autodiscover/autodiscover.xml", b"<" * 100_000, login=None
    )
    assert status in (400, 413)


async def test_apple_finds_a_profile(site: Site) -> None:
    path = "/apple/mail.mobileconfig?emailaddress="
    status, kind, body = await curl(site, "mail.example.test", path + "alice%40example.test")
    assert (status, kind) == (200, "application/x-apple-aspen-config; charset=utf-8")
    account = plistlib.loads(body)["PayloadContent"][0]
    assert account["IncomingMailServerHostName"] == "mail.example.test"
    for address, expected in (("alice", 400), ("alice@example.org", 404), ("", 400)):
        status, _, _ = await curl(site, "mail.example.test", path + address)
        assert status == expected
