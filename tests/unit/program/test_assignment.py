"""What a worker is told arrives as it was, secrets and the files that they come from included."""

import json
from pathlib import Path

from mailserver.app.assignment import Assignment, Told
from mailserver.config import Config, Secret
from mailserver.config_file import load


def test_an_assignment_survives_the_way(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://u:secret@h/mail\n")
    environment = {
        "MAILSERVER_DATABASE__URL_FILE": str(tmp_path / "url"),
        "MAILSERVER_S3__SECRET_KEY": "s3cret",
        "MAILSERVER_TLS__CERTIFICATE": str(tmp_path / "tls.crt"),
        "MAILSERVER_LISTENERS__SMTP__ENABLED": "false",
        "MAILSERVER_SERVER__WORKERS": "3",
        "MAILSERVER_ANTISPAM__ENGINES": '[{"kind": "clamd", "address": "unix:/run/clamd"}]',
    }
    config = load(environment=environment).config
    sent = Assignment(
        slot=2,
        config=config,
        descriptors={"imap": [[5, 6], [7, 8]]},
        services={"dsn": "x"},
        accounts=tmp_path,
        initial=False,
    )
    got = Assignment.read(json.loads(json.dumps(sent.message())))
    assert got == sent
    assert got.config.database.url.get_secret_value() == "postgresql://u:secret@h/mail"
    (tmp_path / "url").write_text("postgresql://u:renewed@h/mail\n")
    assert got.config.database.url.current() == "postgresql://u:renewed@h/mail"
    assert got.config.s3.secret_key == Secret("s3cret")
    assert got.config.tls.certificate == tmp_path / "tls.crt"


def test_the_first_worker_prepares_the_store_and_later_ones_do_not_wait_for_it() -> None:
    def first(slot: int, initial: bool) -> bool:
        return Assignment(slot, Config(), {}, None, initial=initial).first

    assert [first(0, True), first(1, True), first(1, False)] == [True, False, True]


def test_services_that_moved_are_found() -> None:
    bucket = {"endpoint": "http://127.0.0.1:1", "bucket": "mail", "region": "us-east-1"}
    keys = {"access_key": "a", "secret_key": "b"}
    told = Told({"dsn": "postgresql:///a", "bucket": bucket | keys, "data": "/data"})
    backends = told.backends()
    assert backends.dsn() == backends.direct_dsn() == "postgresql:///a"
    moved = bucket | keys | {"endpoint": "http://127.0.0.1:2"}
    told.services = {"dsn": "postgresql:///b", "bucket": moved, "data": "/data"}
    assert backends.dsn() == "postgresql:///b"
    assert backends.bucket().endpoint == "http://127.0.0.1:2"
