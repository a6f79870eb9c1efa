"""The configuration: infrastructure only, read once, passed as a value.

Sources, the later one wins: defaults, the TOML file, environment variables
`MAILSERVER_SECTION__KEY`, and for secrets `MAILSERVER_SECTION__KEY_FILE`, the path of a file with
the value. Domains, accounts and aliases are not here: they live in PostgreSQL.
"""

from mailserver.config.antispam import ADDRESS as ADDRESS
from mailserver.config.antispam import Antispam as Antispam
from mailserver.config.antispam import Authentication as Authentication
from mailserver.config.antispam import Content as Content
from mailserver.config.antispam import Engine as Engine
from mailserver.config.antispam import Greylisting as Greylisting
from mailserver.config.antispam import Limits as Limits
from mailserver.config.mail import Imap as Imap
from mailserver.config.mail import Mover as Mover
from mailserver.config.mail import Outbound as Outbound
from mailserver.config.mail import Reports as Reports
from mailserver.config.mail import Sending as Sending
from mailserver.config.mail import Smtp as Smtp
from mailserver.config.mail import Store as Store
from mailserver.config.services import S3 as S3
from mailserver.config.services import Database as Database
from mailserver.config.services import Dns as Dns
from mailserver.config.services import Embedded as Embedded
from mailserver.config.services import Listener as Listener
from mailserver.config.services import Listeners as Listeners
from mailserver.config.services import Server as Server
from mailserver.config.services import Tls as Tls
from mailserver.config.values import Secret as Secret
from mailserver.config.values import Section as Section
from mailserver.config.values import is_private_url as is_private_url
from mailserver.config.values import networks as networks
from mailserver.config.watching import Log as Log
from mailserver.config.watching import Metrics as Metrics
from mailserver.config.watching import Tracing as Tracing
from mailserver.config.web import JMAP_SESSION as JMAP_SESSION
from mailserver.config.web import SIGNATURES as SIGNATURES
from mailserver.config.web import Discovery as Discovery
from mailserver.config.web import Http as Http
from mailserver.config.web import Oauth as Oauth
from mailserver.config.web import Push as Push


class Config(Section):
    """Everything."""

    server: Server = Server()
    embedded: Embedded = Embedded()
    database: Database = Database()
    s3: S3 = S3()
    listeners: Listeners = Listeners()
    tls: Tls = Tls()
    smtp: Smtp = Smtp()
    antispam: Antispam = Antispam()
    sending: Sending = Sending()
    content: Content = Content()
    dns: Dns = Dns()
    authentication: Authentication = Authentication()
    discovery: Discovery = Discovery()
    outbound: Outbound = Outbound()
    reports: Reports = Reports()
    imap: Imap = Imap()
    oauth: Oauth = Oauth()
    http: Http = Http()
    push: Push = Push()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()
    log: Log = Log()
    mover: Mover = Mover()
    store: Store = Store()
