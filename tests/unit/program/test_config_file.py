from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.config import Config, Secret
from mailserver.config_file import load, problems_for_service
from mailserver.config_file import settings as every_setting
from mailserver.errors import ConfigurationError


def problems(file: Path | None = None, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(file, environment)
    return str(caught.value).splitlines()


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mailserver.toml"
    file.write_text(text)
    return file


def test_defaults_without_any_source() -> None:
    assert load().config == Config()
    assert load().sources == {}


def test_later_sources_win_and_are_named(tmp_path: Path) -> None:
    file = written(
        tmp_path, '[smtp]\nmax_message_size = 2048\nmax_recipients = 200\n[log]\nlevel="error"'
    )
    loaded = load(
        file,
        {"MAILSERVER_SMTP__MAX_RECIPIENTS": "300"},
        {"smtp.catch_outbound": True, "log.level": "debug"},
    )
    assert loaded.config.smtp.max_message_size == 2048
    assert loaded.config.smtp.max_recipients == 300
    assert loaded.config.smtp.catch_outbound is True
    assert loaded.config.log.level == "error"
    assert loaded.sources == {
        "smtp.max_message_size": str(file),
        "smtp.max_recipients": "MAILSERVER_SMTP__MAX_RECIPIENTS",
        "smtp.catch_outbound": "built in",
        "log.level": str(file),
    }


def test_listener_changed_in_part_keeps_its_port() -> None:
    config = load(environment={"MAILSERVER_LISTENERS__IMAPS__HOST": "0.0.0.0"}).config
    assert (config.listeners.imaps.host, config.listeners.imaps.port) == ("0.0.0.0", 2993)


def test_every_setting_can_be_set_from_the_environment() -> None:
    for setting in every_setting(Config()):
        value: object = Config()
        for part in setting.key:
            value = getattr(value, part)
        given_text = "x" if setting.secret or value is None else str(value)
        if setting.name.startswith("database.") and setting.secret:
            given_text = "postgresql://x"
        sources = load(environment={setting.variable: given_text}).sources
        assert sources == {setting.name: setting.variable}


def test_engines_come_from_the_file_or_as_json_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[[antispam.engines]]\nkind = "spamd"\naddress = "127.0.0.1:783"\n')
    [engine] = load(file).config.antispam.engines
    assert (engine.label, engine.address) == ("spamd", "127.0.0.1:783")
    text = '[{"kind": "rspamd", "address": "[::1]:11333 rspamd:11333", "name": "second"}]'
    [engine] = load(environment={"MAILSERVER_ANTISPAM__ENGINES": text}).config.antispam.engines
    assert (engine.label, engine.kind) == ("second", "rspamd")


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        ('{"kind": "spam", "address": "a:1"}', "antispam.engines.0.kind: "),
        ('{"kind": "spamd", "address": "127.0.0.1"}', "antispam.engines.0.address: "),
        ('{"kind": "spamd", "address": "a:1", "timeout": 20}', "antispam.time_limit should"),
        ('{"kind": "spamd", "address": "a:1"}, {"kind": "spamd", "address": "b:1"}', "a `name`"),
        ("nonsense", "antispam.engines: "),
    ],
)
def test_wrong_engines_are_told_with_their_source(engine: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        load(environment={"MAILSERVER_ANTISPAM__ENGINES": f"[{engine}]"})
    assert problem in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[smtp]\nmax_mesage_size = 5",
            "smtp.max_mesage_size: no such key; did you mean smtp.max_message_size?",
        ),
        (
            "[smpt]\ncatch_outbound = true",
            "smpt.catch_outbound: no such key; did you mean smtp.catch_outbound?",
        ),
        (
            "[wrong]\nidle_timeout = 5",
            "wrong.idle_timeout: no such key; did you mean imap.idle_timeout?",
        ),
        ("[zzz]\nqqq = 5", "zzz.qqq: no such key"),
        ('[smtp]\nmax_recipients = "many"', "smtp.max_recipients: should be a valid integer"),
        (
            "[smtp]\nmax_recipients = 1",
            "smtp.max_recipients: should be greater than or equal to 100, not 1",
        ),
        (
            '[log]\nlevel = "loud"',
            "log.level: should be 'debug', 'info', 'warning' or 'error', not 'loud'",
        ),
        (
            "[listeners.smtp]\nport = 70000",
            "listeners.smtp.port: should be less than or equal to 65535",
        ),
        ('[smtp]\ncatch_outbound_file = "/x"', "only secrets are read from files"),
        ('[database]\nurl_file = "/nowhere/url"', "/nowhere/url cannot be read: No such file"),
        ('[database]\nurl_file = "\\u0000"', "cannot be read: embedded null byte"),
    ],
)
def test_mistake_in_a_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    file = written(tmp_path, text)
    (line,) = problems(file)
    assert line.startswith(str(file)) or "default" in line
    assert expected in line


def test_a_limit_of_copies_below_that_of_other_commands(tmp_path: Path) -> None:
    file = written(tmp_path, "[imap]\nmessage_limit = 5000\nsave_limit = 4999")
    (line,) = problems(file)
    assert "save_limit cannot be smaller than message_limit" in line
    file = written(tmp_path, "[imap]\nmessage_limit = 5000\nsave_limit = 5000")
    assert load(file).config.imap.save_limit == 5000
    assert load(written(tmp_path, "[imap]\nsave_limit = 10")).config.imap.message_limit == 0


def test_wrong_value_of_a_secret_is_not_shown(tmp_path: Path) -> None:
    (line,) = problems(written(tmp_path, "[database]\nurl = 12345"))
    assert "12345" not in line
    assert "database.url: should be a valid string" in line


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, '[smtp]\nmax_recipients = "many"\nnothing = 1')
    lines = problems(file, {"MAILSERVER_IMAP__IDEL_TIMEOUT": "3"})
    assert len(lines) == 3
    assert any("did you mean MAILSERVER_IMAP__IDLE_TIMEOUT?" in line for line in lines)


def test_file_that_is_not_toml_or_not_there(tmp_path: Path) -> None:
    assert "not TOML" in problems(written(tmp_path, "a = = b"))[0]
    assert "cannot be read: No such file" in problems(tmp_path / "none.toml")[0]


def test_one_underscore_is_explained() -> None:
    assert problems(environment={"MAILSERVER_LOG_LEVEL": "debug"}) == [
        "MAILSERVER_LOG_LEVEL: write two underscores: MAILSERVER_LOG__LEVEL"
    ]


def test_variables_that_kubernetes_sets_are_not_ours() -> None:
    environment = {"MAILSERVER_SERVICE_HOST": "10.0.0.1", "MAILSERVER_PORT_8080_TCP": "tcp://x"}
    assert load(environment=environment).config == Config()


def test_secret_from_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql:///one\n")
    config = load(environment={"MAILSERVER_DATABASE__URL_FILE": str(file)}).config
    assert config.database.url.current() == "postgresql:///one"
    file.write_text("postgresql:///two\n")
    assert config.database.url.current() == "postgresql:///two"
    copied = config.model_copy(update={"s3": config.s3})
    assert copied.database.url.current() == "postgresql:///two"


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    loaded = load(environment={"MAILSERVER_S3__SECRET_KEY": "hunter2"})
    assert "hunter2" not in repr(loaded)
    assert "hunter2" not in loaded.config.model_dump_json()
    assert all("hunter2" not in str(value) for _, value, _ in loaded.values())


def test_what_serve_misses() -> None:
    complete = {
        "MAILSERVER_DATABASE__URL": "postgresql:///mail",
        "MAILSERVER_S3__ENDPOINT": "http://s3.example.test",
        "MAILSERVER_TLS__CERTIFICATE": "/tls/tls.crt",
        "MAILSERVER_TLS__KEY": "/tls/tls.key",
    }
    assert problems_for_service(load(environment=complete).config) == []
    for variable in complete:
        rest = {name: value for name, value in complete.items() if name != variable}
        assert problems_for_service(load(environment=rest).config)
    alone = {
        "MAILSERVER_EMBEDDED__ENABLED": "true",
        **{f"MAILSERVER_LISTENERS__{n}__ENABLED": "no" for n in ("SUBMISSIONS", "IMAPS", "HTTPS")},
    }
    assert problems_for_service(load(environment=alone).config) == []


def test_tokens_need_an_issuer_and_an_audience() -> None:
    issuer = {"MAILSERVER_OAUTH__ISSUER": "https://login.example.test/realms/mail"}
    problems = problems_for_service(load(environment=issuer).config)
    assert any("oauth.audience" in problem for problem in problems)
    introspection = {"MAILSERVER_OAUTH__INTROSPECTION_URL": "https://login.example.test/i"}
    problems = problems_for_service(load(environment=introspection).config)
    assert any("oauth.client_id" in problem for problem in problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ISSUER", "http://login.example.test"),
        ("ISSUER", "login.example.test"),
        ("ISSUER", "https://[login"),
        ("INTROSPECTION_URL", "http://10.0.0.1/"),
        ("ALGORITHMS", "RS256 HS256"),
        ("ALGORITHMS", "none"),
        ("ALGORITHMS", " "),
    ],
)
def test_what_would_let_anybody_in_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"oauth.{key.lower()}: should be"):
        load(environment={f"MAILSERVER_OAUTH__{key}": value})


NAMES = [setting.name for setting in every_setting(Config())]
VARIABLES = [setting.variable for setting in every_setting(Config())]


@settings(max_examples=150)
@given(
    st.sampled_from(VARIABLES).flatmap(
        lambda name: st.sampled_from(
            [name, name + "_FILE", name[:-1], name + name[-1], name.replace("__", "_")]
        )
    ),
    st.one_of(st.text(max_size=8), st.sampled_from(["0", "-1", "true", "1e9", "/dev/null"])),
)
def test_any_variable_gives_a_configuration_or_its_own_error(variable: str, value: str) -> None:
    name = variable.removeprefix("MAILSERVER_").lower().replace("__", ".")
    try:
        config = load(environment={variable: value}).config
    except ConfigurationError as error:
        text = str(error)
    else:
        text = name
        assert isinstance(config, Config)
    assert variable in text or name in text


def test_a_secret_is_a_secret_after_validation() -> None:
    secret = Secret("postgresql://value", Path("/somewhere"))
    config = Config.model_validate({"database": {"url": secret}})
    assert config.database.url.path == Path("/somewhere")


def test_the_variable_of_another_server_is_read_unless_ours_is_there() -> None:
    theirs = {"STALWART_DATABASE_URL": "postgresql://theirs/mail"}
    loaded = load(environment=theirs)
    assert loaded.config.database.url.get_secret_value() == "postgresql://theirs/mail"
    assert loaded.sources["database.url"] == "STALWART_DATABASE_URL"
    ours = theirs | {"MAILSERVER_DATABASE__URL": "postgresql://ours/mail"}
    assert load(environment=ours).config.database.url.get_secret_value() == "postgresql://ours/mail"
