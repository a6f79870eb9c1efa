"""Read the configuration: defaults, a TOML file, the environment; say where each value came from.

Environment variables are named `MAILSERVER_SECTION__KEY`. A secret may also be given as the path
of a file, `MAILSERVER_SECTION__KEY_FILE` or `key_file` in the TOML file; it is then read again
whenever it is used, because such files are renewed while the server runs.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mailserver.config import Config, Oauth, Secret
from mailserver.errors import ConfigurationError

PREFIX = "MAILSERVER_"
DEFAULT = "default"

# What other mail servers call a key: their deployments need no change but the image.
OTHER_NAMES = {"STALWART_DATABASE_URL": "database.url"}

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration: its path, what it means, its default."""

    key: Key
    description: str
    default: object
    secret: bool

    @property
    def name(self) -> str:
        """Return the key as it is written in messages: `section.key`."""
        return ".".join(self.key)

    @property
    def variable(self) -> str:
        """Return the name of the environment variable."""
        return PREFIX + "__".join(self.key).upper()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and, for each key that has not its default, the source of the value."""

    config: Config
    sources: Mapping[str, str]

    def values(self) -> Iterator[tuple[Setting, object, str]]:
        """Return every setting with its effective value and its source; secrets stay masked."""
        for setting in settings(self.config):
            value: object = self.config
            for part in setting.key:
                value = getattr(value, part)
            yield setting, value, self.sources.get(setting.name, DEFAULT)


def settings(section: BaseModel, path: Key = ()) -> Iterator[Setting]:
    """List every key below a section in the order in which the classes name them."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from settings(value, (*path, name))
        else:
            yield Setting((*path, name), field.description or "", field.default, _is_secret(field))


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    base: Mapping[str, object] | None = None,
) -> Loaded:
    """Build the configuration; `base` holds values by dotted key that replace the defaults.

    Raise ConfigurationError with one line for every mistake.
    """
    known = {setting.name: setting for setting in settings(Config())}
    given: dict[str, tuple[object, str]] = {}
    problems: list[str] = []
    for name, value in (base or {}).items():
        given[name] = (value, "built in")
    if file is not None:
        _take_file(file, known, given, problems)
    _take_environment(environment or {}, known, given, problems)
    config = _build(known, given, problems)
    if problems or config is None:
        raise ConfigurationError("\n".join(problems))
    return Loaded(config, {name: source for name, (_, source) in given.items()})


def problems_for_service(config: Config) -> list[str]:
    """Say what `mailserver serve` misses in a configuration that is well formed."""
    missing = []
    if not config.embedded.enabled:
        if not config.database.url.get_secret_value():
            missing.append("database.url: needed, unless embedded.enabled = true")
        if not config.s3.endpoint:
            missing.append("s3.endpoint: needed, unless embedded.enabled = true")
    if (config.tls.certificate is None) != (config.tls.key is None):
        missing.append("tls.certificate and tls.key: give both or none")
    missing += _problems_with_tokens(config.oauth)
    if config.listeners.relay.enabled:
        keys = ("relay_networks", "relay_domains", "relay_account")
        missing += [
            f"smtp.{key}: needed by listeners.relay"
            for key in keys
            if not getattr(config.smtp, key)
        ]
    needs_tls = [name for name in ("submissions", "imaps", "https") if _listens(config, name)]
    if config.tls.certificate is None and needs_tls:
        missing.append(
            f"tls.certificate: needed by {', '.join(f'listeners.{name}' for name in needs_tls)};"
            " give one, or set their `enabled = false`"
        )
    return missing


def _problems_with_tokens(oauth: Oauth) -> list[str]:
    missing = []
    if oauth.issuer and not oauth.audience:
        missing.append("oauth.audience: needed with oauth.issuer, or tokens for others would count")
    if oauth.introspection_url and not (oauth.issuer and oauth.client_id):
        missing.append("oauth.issuer and oauth.client_id: needed by oauth.introspection_url")
    return missing


def _listens(config: Config, name: str) -> bool:
    return bool(getattr(config.listeners, name).enabled)


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is Secret or Secret in get_args(field.annotation)


def _take_file(
    file: Path,
    known: Mapping[str, Setting],
    given: dict[str, tuple[object, str]],
    problems: list[str],
) -> None:
    try:
        with file.open("rb") as stream:
            tree = tomllib.load(stream)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None
    for key, value in _leaves(tree, known):
        name, source = ".".join(key), str(file)
        if name not in known and name.removesuffix("_file") in known:
            _take_secret_file(
                known[name.removesuffix("_file")], value, name, source, given, problems
            )
        elif name in known:
            given[name] = (value, source)
        else:
            problems.append(f"{source}: {name}: no such key{_nearest(name, list(known))}")


def _leaves(
    tree: Mapping[str, Any], known: Mapping[str, Setting], path: Key = ()
) -> Iterator[tuple[Key, object]]:
    for name, value in tree.items():
        key = (*path, name)
        if isinstance(value, dict) and ".".join(key) not in known:
            yield from _leaves(value, known, key)
        else:
            yield key, value


def _take_environment(
    environment: Mapping[str, str],
    known: Mapping[str, Setting],
    given: dict[str, tuple[object, str]],
    problems: list[str],
) -> None:
    for variable, name in OTHER_NAMES.items():
        if variable in environment:
            given[name] = (environment[variable], variable)
    by_variable = {setting.variable: setting for setting in known.values()}
    flattened = {variable.replace("__", "_"): variable for variable in by_variable}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX):
            continue
        stem = variable.removesuffix("_FILE")
        if variable in by_variable:
            given[by_variable[variable].name] = (value, variable)
        elif stem != variable and stem in by_variable:
            setting = by_variable[stem]
            _take_secret_file(setting, value, variable, "environment", given, problems)
        elif variable in flattened:
            problems.append(f"{variable}: write two underscores: {flattened[variable]}")
        elif "__" in variable:
            # Without "__" it is none of ours: Kubernetes sets MAILSERVER_SERVICE_HOST and the like.
            nearest = _nearest(variable, list(by_variable))
            problems.append(f"environment: {variable}: no such key{nearest}")


def _take_secret_file(
    setting: Setting,
    value: object,
    name: str,
    source: str,
    given: dict[str, tuple[object, str]],
    problems: list[str],
) -> None:
    if not setting.secret:
        problems.append(f"{source}: {name}: only secrets are read from files; use {setting.name}")
        return
    if not isinstance(value, str):
        problems.append(f"{source}: {name}: should be the path of a file")
        return
    try:
        given[setting.name] = (Secret.from_file(Path(value)), f"{name} ({value})")
    except UnicodeDecodeError:
        problems.append(f"{source}: {name}: {value} cannot be read: not UTF-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(f"{source}: {name}: {value} cannot be read: {reason}")


def _build(
    known: Mapping[str, Setting], given: Mapping[str, tuple[object, str]], problems: list[str]
) -> Config | None:
    tree: dict[str, Any] = {}
    for name, (value, _) in given.items():
        *parents, leaf = known[name].key
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    _keep_sibling_defaults(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=True):
            name = ".".join(str(part) for part in detail["loc"])
            setting = known.get(name)
            whole = ".".join(str(part) for part in detail["loc"][:2])  # the list of an entry
            source = given.get(name, given.get(whole, ("", DEFAULT)))[1]
            shown = "" if setting is None or setting.secret else f", not {detail['input']!r}"
            expected = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
            problems.append(f"{source}: {name}: {expected}{shown}")
        return None


def _keep_sibling_defaults(tree: dict[str, Any]) -> None:
    """Give a listener that is changed in part the port that its name has by default."""
    for name, changes in tree.get("listeners", {}).items():
        default = getattr(Config().listeners, name).model_dump()
        tree["listeners"][name] = default | changes


def _nearest(name: str, known: list[str]) -> str:
    """Suggest the known key that looks most like a name."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not matches:
        # A right key in a wrong or missing section is as common as a misspelt one.
        leaf = name.rsplit(".", 1)[-1]
        matches = [candidate for candidate in known if candidate.rsplit(".", 1)[-1] == leaf][:1]
    return f"; did you mean {matches[0]}?" if matches else ""
