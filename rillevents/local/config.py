"""The configuration as the programs use it: defaults < config.toml < environment.

There are two readers. `load` is for everything that may fail: it parses config.toml and raises ConfigError.
`load_for_recording` is for the hot path: it never fails, reads only what recording needs, and caches that in parsed form
beside the spool, because parsing TOML costs twice what starting Python costs. The cache never contains a secret.
"""

from __future__ import annotations

import os

from rillevents.event import ENVELOPE, IS_DEV, SERVICE_COMMIT, SERVICE_NAME, SERVICE_VERSION, USER_ID, ndjson
from rillevents.local import __version__, consent
from rillevents.local.files import make_folder, prepare_home, read_file, read_text_file, replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rillevents.local import Paths

RECORDING_SECTIONS = ("attributes", "ci", "filter", "redact", "spool")
DEFAULT_MAX_BYTES = 1 << 30
SESSION_ID = "session_id"


class Config:
    """The sections of config.toml, checked, with their settings by name; `warnings` are for a person to see."""

    __slots__ = ("sections", "warnings")

    def __init__(self, sections: Mapping[str, Any], warnings: list[str]) -> None:
        self.sections = sections
        self.warnings = warnings

    def get(self, section: str, key: str, default: Any = None) -> Any:
        """Return one setting, or *default* if config.toml does not set it."""
        return self.sections.get(section, {}).get(key, default)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that `[attributes]` adds to every event."""
        return dict(self.sections.get("attributes", {}))

    @property
    def max_bytes(self) -> int:
        """The maximum size of the spool in bytes."""
        return int(self.get("spool", "max_bytes", DEFAULT_MAX_BYTES))

    @property
    def durable(self) -> bool:
        """Whether every recorded event is synced to the disk before it counts as recorded."""
        return bool(self.get("spool", "durable", False))


def load(paths: Paths, *, lenient: bool = False) -> Config:
    """Return all of config.toml; raises ConfigError if it is not TOML, or a value has the wrong type.

    *lenient* leaves out such a value, with a warning.
    """
    from rillevents.local.config_file import parse

    try:
        content = read_text_file(paths.config_file) if paths.config_file else None
    except OSError as error:
        from rillevents.errors import ConfigError

        raise ConfigError(f"{paths.config_file} cannot be read: {error.strerror or error}") from None
    try:
        found = _over_defaults(paths, Config(*parse(content or b"", paths.config_file, lenient=lenient)))
    except RecursionError:
        from rillevents.errors import ConfigError

        raise ConfigError(f"{paths.config_file} is nested too deeply", hint="correct it, or move it away") from None
    if content and os.name == "posix":
        found.warnings.extend(_exposed(found, paths.config_file))
    return found


def _exposed(config: Config, path: str) -> list[str]:
    """Return a warning for a secret that others can read, and one for a file that others can write."""
    try:
        found, me = os.stat(path), os.geteuid()
    except OSError:
        return []
    warnings = []
    if _holds_secret(config) and found.st_mode & 0o077:
        warnings.append(f"{path} contains a secret that other users can read; run: chmod 600 {path}")
    # Do not warn root: with `sudo` in a user's home, that user's file is meant.
    foreign = me != 0 and found.st_uid not in (0, me)
    if foreign or found.st_mode & 0o002:
        warnings.append(f"{path} can be changed by other users, who can thus redirect your events")
    return warnings


def _holds_secret(config: Config) -> bool:
    from rillevents.local.config_file import is_secret

    return any(
        is_secret(f"{name}.{key}") for name, table in config.sections.items() for key, value in table.items() if value
    )


def load_for_recording(paths: Paths, *, cache: bool = True) -> Config:
    """Return what recording needs of config.toml; if the file is broken, the defaults and a warning.

    With *cache* false nothing is written; a cache that cannot be written is no failure.
    """
    identity = _identity(paths.config_file)
    if identity is None:
        return _over_defaults(paths, Config({}, []))
    known = _read_cache(paths.config_cache, identity)
    if known is None:
        known = _parse_for_recording(paths)
        if cache:
            _write_cache(paths, identity, known)
    return _over_defaults(paths, known)


def _over_defaults(paths: Paths, config: Config) -> Config:
    """Return the settings over those that a program comes with.

    A user's intake takes the place of the program's as a whole: its credentials are not for another server.
    """
    defaults = paths.app.defaults
    if not defaults:
        return config
    sections = {name: {**table, **config.sections.get(name, {})} for name, table in defaults.items()}
    if config.get("intake", "url"):
        sections["intake"] = config.sections["intake"]
    return Config({**config.sections, **sections}, config.warnings)


def _identity(path: str) -> list[Any] | None:
    """What a cache is valid for: one version of this tool, and one file in one state (a link is followed)."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [__version__, path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read_cache(path: str, identity: list[Any]) -> Config | None:
    try:
        cached = ndjson.loads((read_file(path) or b"").decode()) if path else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(cached, dict) or cached.get("identity") != identity:
        return None
    # Check its contents: a damaged cache must not cost anybody an event, and only this check gets it renewed.
    sections, warnings = cached.get("sections"), cached.get("warnings")
    if not isinstance(sections, dict) or not all(isinstance(table, dict) for table in sections.values()):
        return None
    return Config(sections, warnings) if isinstance(warnings, list) else None


def _write_cache(paths: Paths, identity: list[Any], config: Config) -> None:
    content = {"identity": identity, "sections": config.sections, "warnings": config.warnings}
    try:
        prepare_home(paths.home)
        make_folder(paths.state_dir)
        replace_file(paths.config_cache, ndjson.dumps(content).encode(), durable=False)
    except OSError:
        # Not an error: the next call parses the TOML again, and nothing else is lost.
        return


def _parse_for_recording(paths: Paths) -> Config:
    from rillevents.errors import ConfigError
    from rillevents.local.config_file import WITHOUT_IT

    try:
        # Lenient: a slip in one section must not turn off the filters and the redaction of another.
        config = load(paths, lenient=True)
    except ConfigError as error:
        return Config({}, [f"{error.message}{WITHOUT_IT}"])
    sections = {name: config.sections[name] for name in RECORDING_SECTIONS if name in config.sections}
    auto = config.get("flush", "auto")
    if auto is not None:
        # Of this section nothing else: a destination may hold a password.
        sections["flush"] = {"auto": auto}
    wrong = [text for text in config.warnings if text.endswith(WITHOUT_IT)]
    # One line, however much is wrong, since it comes with every event.
    more = f", and {len(wrong) - 1} more; run: rillevents config list" if wrong[1:] else ""
    return Config(sections, [f"{wrong[0]}{more}"] if wrong else [])


def identity_attributes(paths: Paths) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes that the environment adds to every event, and a warning for each that is not usable."""
    attributes, warnings = _listed_attributes(paths.variable("ATTRIBUTES"), f"{paths.app.prefix}ATTRIBUTES")
    if paths.variable("SESSION_ID"):
        of_session, more = session_attributes(paths)
        attributes, warnings = {**of_session, **attributes}, warnings + more
    for variable, key in (
        ("SESSION_ID", SESSION_ID),
        ("SERVICE_NAME", SERVICE_NAME),
        ("SERVICE_VERSION", SERVICE_VERSION),
        ("SERVICE_COMMIT", SERVICE_COMMIT),
        ("USER_ID", USER_ID),
    ):
        value = paths.variable(variable)
        if value and is_json(key, value):
            attributes[key] = value
        elif value:
            warnings.append(f"{paths.app.prefix}{variable} is not valid Unicode; it was left out")
    is_dev, warning = _switched(paths.variable("IS_DEV"), f"{paths.app.prefix}IS_DEV")
    if is_dev:
        attributes[IS_DEV] = True
    return attributes, warnings + warning


def session_attributes(paths: Paths) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes of the session that this environment is in, and a warning if the variable is malformed."""
    return _listed_attributes(paths.variable("SESSION_ATTRIBUTES"), f"{paths.app.prefix}SESSION_ATTRIBUTES")


def ci_context(paths: Paths, config: Config) -> tuple[bool, list[str]]:
    """Return whether events get the attributes of the CI job, and a warning if the variable is neither true nor false."""
    wanted, warning = _switched(paths.variable("CI_CONTEXT"), f"{paths.app.prefix}CI_CONTEXT")
    return (bool(config.get("ci", "context", False)) if wanted is None else wanted), warning


def auto_interval(paths: Paths, config: Config) -> tuple[float, list[str]]:
    """Return in how many seconds a command that stored may start one flush, 0 for never; and a warning for an odd variable."""
    text = paths.variable("FLUSH_AUTO").strip().lower()
    if not text:
        configured = config.get("flush", "auto", 0.0)
        # A damaged cache may hold anything, and costs nobody an event.
        return (float(configured) if isinstance(configured, (int, float)) else 0.0), []
    if text in consent.OFF:
        return 0.0, []
    from rillevents.event.timestamp import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if 0 < seconds < 1e6:
        return seconds, []
    return 0.0, [f"{paths.app.prefix}FLUSH_AUTO={text!r} is no duration such as 30s; no flush is started"]


def _switched(text: str, name: str) -> tuple[bool | None, list[str]]:
    """Return what a variable's *text* says, true or false; None if neither, with a warning if it says something else."""
    value = text.strip().lower()
    if not value or value in ("1", "true", "yes", "on"):
        return (True if value else None), []
    if value in ("0", "false", "no", "off"):
        return False, []
    return None, [f"{name}={value!r} is neither true nor false; it was left out"]


def _listed_attributes(text: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """Read `k=v,k2=v2` with percent-encoding (the format of OpenTelemetry's OTEL_RESOURCE_ATTRIBUTES), or a JSON object."""
    if not text.strip():
        return {}, []
    found: object
    if text.lstrip()[:1] == "{":
        try:
            found = ndjson.loads(text)
        except (ValueError, RecursionError):
            found = None
        pairs = found if isinstance(found, dict) else {"": text}
    else:
        pairs = {}
        for part in text.split(","):
            key, equals, value = part.partition("=")
            key = percent_decoded(key.strip())
            pairs[key if equals else ""] = percent_decoded(value.strip())
    attributes = {key: value for key, value in pairs.items() if key and key not in ENVELOPE and is_json(key, value)}
    bad = len(pairs) - len(attributes)
    return attributes, [f"{name} is partly malformed: write k=v,k2=v2 or a JSON object"] if bad else []


def is_json(key: str, value: object) -> bool:
    """Return whether an attribute can be written: all its text is valid Unicode."""
    try:
        ndjson.dumps({key: value}).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def percent_decoded(text: str) -> str:
    """Return *text* with %XX decoded; invalid UTF-8 becomes lone surrogates, which no event accepts."""
    if "%" not in text:
        return text
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    decoded = [first]
    for part in rest:
        try:
            decoded.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:])
        except ValueError:
            decoded.append(b"%" + part)
    return b"".join(decoded).decode("utf-8", "surrogateescape")
