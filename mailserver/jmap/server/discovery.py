"""What mail programs and other servers ask for before anybody logs in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from starlette.requests import Request

from mailserver.address import Address, parse_address
from mailserver.errors import Invalid, NotFound
from mailserver.jmap.server.access import read_body
from mailserver.jmap.server.replies import JSON, Header, Receive, Scope, simple_problem
from mailserver.jmap.server.resource import MAX_HOST
from mailserver.mail import discovery
from mailserver.mail.context import Mail

BODY_TIME = 20.0  # seconds for a request of Outlook
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")
XML: Header = (b"content-type", b"text/xml; charset=utf-8")
PROFILE: Header = (b"content-type", b"application/x-apple-aspen-config; charset=utf-8")
ATTACHED: Header = (b"content-disposition", b'attachment; filename="mail.mobileconfig"')
KEPT: Header = (b"cache-control", b"max-age=3600")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of somebody who is not logged in."""

    scope: Scope
    headers: Mapping[bytes, bytes]
    receive: Receive

    @property
    def host(self) -> str:
        """Return the host that was asked, without the port."""
        host = self.headers.get(b"host", b"")[: MAX_HOST + 6].decode("ascii", "replace")
        return host.partition(":")[0].lower()

    def parameter(self, *names: str) -> str:
        """Return a parameter of the query, under any of its names; empty when there is none."""
        query = Request(self.scope).query_params
        return next((query[name] for name in names if name in query), "")


Page = tuple[bytes, tuple[Header, ...]]
Handler = Callable[[Asked], Awaitable[Page]]


class Discovery:
    """Finds the documents of the domain that a request is about."""

    def __init__(self, mail: Mail) -> None:
        self._mail = mail
        self._config = mail.config

    def routes(self) -> Sequence[tuple[str, str, Handler]]:
        """Return path, method and handler of each document."""
        return (
            ("/.well-known/mta-sts.txt", "GET", self._policy),
            ("/mail/config-v1.1.xml", "GET", self._autoconfig),
            ("/.well-known/autoconfig/mail/config-v1.1.xml", "GET", self._autoconfig),
            # QUIRK(Outlook): writes the path now so, now so
            ("/autodiscover/autodiscover.xml", "POST", self._autodiscover),
            ("/Autodiscover/Autodiscover.xml", "POST", self._autodiscover),
            ("/AutoDiscover/AutoDiscover.xml", "POST", self._autodiscover),
            ("/autodiscover/autodiscover.json", "GET", self._autodiscover_where),
            ("/autodiscover/autodiscover.json/v1.0/{address}", "GET", self._autodiscover_where),
            ("/apple/mail.mobileconfig", "GET", self._profile),
        )

    async def _policy(self, asked: Asked) -> Page:
        """Answer with the policy of the domain whose host was asked (RFC 8461 §3.3)."""
        prefix, _, domain = asked.host.partition(".")
        text = discovery.policy(self._config)
        if prefix != "mta-sts" or text is None:
            raise NotFound("policy")
        await discovery.our_domain(self._mail, domain)
        return text.encode(), (TEXT, KEPT)

    async def _autoconfig(self, asked: Asked) -> Page:
        """Answer about the domain of the address, else about the host that was asked."""
        _, at, domain = asked.parameter("emailaddress").rpartition("@")
        if not at:
            domain = asked.host.removeprefix("autoconfig.")
        domain = await discovery.our_domain(self._mail, domain)
        return discovery.autoconfig(self._config, domain), (XML, KEPT)

    async def _autodiscover(self, asked: Asked) -> Page:
        """Answer Outlook; what cannot be answered is told as it wants it, with status 200."""
        most = discovery.MAX_REQUEST
        body = await read_body(asked.receive, asked.headers, most, "maxSizeRequest", BODY_TIME)
        try:
            address = parse_address(discovery.read_autodiscover(body))
        except Invalid as error:
            return discovery.autodiscover_error(discovery.BAD_REQUEST, str(error)), (XML,)
        try:
            await discovery.our_domain(self._mail, address.domain)
        except NotFound:
            text = "the address is none of this server"
            return discovery.autodiscover_error(discovery.NO_ADDRESS, text), (XML,)
        return discovery.autodiscover(self._config, address), (XML,)

    async def _autodiscover_where(self, asked: Asked) -> Page:
        """Tell newer versions of Outlook where the request is to be sent."""
        wanted = asked.parameter("Protocol", "protocol")
        if wanted.lower() != "autodiscoverv1":
            raise simple_problem(400, "only the protocol AutodiscoverV1 is spoken here")
        port = self._config.discovery.jmap or 443
        place = discovery.host(self._config) + ("" if port == 443 else f":{port}")
        url = f"https://{place}/autodiscover/autodiscover.xml"
        return orjson.dumps({"Protocol": "AutodiscoverV1", "Url": url}), (JSON,)

    async def _profile(self, asked: Asked) -> Page:
        address = self._address(asked)
        await discovery.our_domain(self._mail, address.domain)
        return discovery.profile(self._config, address), (PROFILE, ATTACHED)

    def _address(self, asked: Asked) -> Address:
        try:
            return parse_address(asked.parameter("emailaddress", "email"))
        except Invalid as error:
            raise simple_problem(400, f"emailaddress: {error}") from None
