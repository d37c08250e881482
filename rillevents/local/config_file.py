"""config.toml: its schema, how it is parsed, and how one setting is changed without touching the rest."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rillevents.errors import ConfigError, UsageError
from rillevents.event import ENVELOPE, ndjson
from rillevents.event.timestamp import parse_duration
from rillevents.local import Paths
from rillevents.local.files import make_folder, prepare_home, read_text_file, replace_file
from rillevents.local.headers import EXAMPLE, check_headers, parse_headers

# How a warning about a wrong value ends if the value was left out.
WITHOUT_IT = "; recorded without it"
SECRETS = ("intake.password", "intake.token", "intake.headers", "otlp.headers")
# How librdkafka names its secrets.
_SECRET = re.compile(r"password|passphrase|secret|\.pem$|^ssl_key$|oauthbearer\.config$")
_LIBRDKAFKA = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def size(value: object) -> int:
    """Return a number of bytes given as an integer or as text such as `64MiB`; raises ValueError."""
    text = str(value).strip().upper()
    digits = text.rstrip("BGIKM ")
    if isinstance(value, bool) or not digits.isdigit() or text[len(digits) :].strip() not in _SIZES or int(digits) < 1:
        raise ValueError("a size such as 64MiB")
    return int(digits) * _SIZES[text[len(digits) :].strip()]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("text")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('a list of texts, such as ["debug-*"]')
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number from 1 on")
    return value


def _seconds(value: object) -> float:
    try:
        number = parse_duration(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < 1e6:
        raise ValueError('a number of seconds, or "30s", "5m"')
    return float(number)


def _interval(value: object) -> float:
    """Return a duration in seconds; 0, false and "off" mean never."""
    if value in (0, "0", "off"):
        return 0.0
    try:
        return _seconds(value)
    except ValueError:
        raise ValueError('"30s", "5m", a number of seconds, or "off"') from None


def _compression(value: object) -> str:
    if value not in ("none", "gzip", "zstd"):
        raise ValueError("none, gzip or zstd")
    return str(value)


def _encoding(value: object) -> str:
    if value not in ("protobuf", "json"):
        raise ValueError("protobuf or json")
    return str(value)


def _headers(value: object) -> dict[str, str]:
    if isinstance(value, str):
        return parse_headers(value)
    if not isinstance(value, dict):
        raise ValueError(EXAMPLE)
    return check_headers(value)


def _librdkafka(value: object) -> str | int | float | bool:
    if not isinstance(value, (str, int, float)) or value == "":
        raise ValueError("text, a number, true or false")
    return value


def _attribute(value: object) -> Any:
    return ndjson.loads(ndjson.dumps(value))


SCHEMA: Mapping[str, Mapping[str, Callable[[object], Any]]] = {
    "intake": {
        "url": _text,
        "user": _text,
        "password": _text,
        "password_file": _text,
        "password_command": _text,
        "token": _text,
        "headers": _headers,
    },
    "filter": {"drop_types": _texts, "drop_names": _texts, "drop_attributes": _texts},
    "redact": {"keys": _texts, "values": _switch, "enabled": _switch},
    "spool": {"max_bytes": size, "durable": _switch},
    "flush": {
        "to": _text,
        "batch_events": _count,
        "batch_bytes": size,
        "compression": _compression,
        "stall_timeout": _seconds,
        "auto": _interval,
    },
    "kafka": {"key": _text},
    "otlp": {"encoding": _encoding, "headers": _headers},
    "ci": {"context": _switch},
}
KEYS = tuple(f"{section}.{key}" for section, keys in SCHEMA.items() for key in keys)


class Parsed(NamedTuple):
    """The checked content of a config.toml, and the warnings for a person."""

    sections: dict[str, dict[str, Any]]
    warnings: list[str]


def parse(content: bytes, path: str, *, lenient: bool = False) -> Parsed:
    """Return the checked content of a config.toml; unknown keys become warnings, wrong values raise ConfigError.

    *lenient* leaves out a wrong value, with a warning, and keeps the others.
    """
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint="correct it, or move it away") from None
    sections: dict[str, dict[str, Any]] = {}
    warnings: list[str] = []
    for section, table in document.items():
        if not isinstance(table, dict) or (section != "attributes" and section not in SCHEMA):
            warnings.append(f"{path}: [{section}] is unknown{did_you_mean(section, (*SCHEMA, 'attributes'))}")
            continue
        sections[section] = {}
        for key, value in _flat(table).items() if section == "kafka" else table.items():
            check = checker(f"{section}.{key}")
            if check is None:
                warnings.append(f"{path}: {section}.{key} is unknown{did_you_mean(f'{section}.{key}', KEYS)}")
            else:
                try:
                    sections[section][key] = _checked(check, value, f"{path}: {section}.{key}")
                except ConfigError as error:
                    if not lenient:
                        raise
                    warnings.append(f"{error.message}{WITHOUT_IT}")
    return Parsed(sections, warnings)


def checker(key: str) -> Callable[[object], Any] | None:
    """Return the function that checks the value of `section.key`, None if there is no such setting."""
    section, _, name = key.partition(".")
    if section == "attributes":
        return _attribute if name and name not in ENVELOPE else None
    if section == "kafka" and name not in SCHEMA[section]:
        return _librdkafka if _LIBRDKAFKA.fullmatch(name) else None
    return SCHEMA.get(section, {}).get(name)


def is_secret(key: str) -> bool:
    """Return whether the setting `section.key` is a secret."""
    section, _, name = key.partition(".")
    return key in SECRETS or (section == "kafka" and _SECRET.search(name) is not None)


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Treat the dots in a key as part of it: in TOML, `linger.ms = 5` without quotes is a table."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        inner = _flat(value) if isinstance(value, dict) and value else {"": value}
        found |= {f"{key}.{name}" if name else key: leaf for name, leaf in inner.items()}
    return found


def _checked(check: Callable[[object], Any], value: object, what: str) -> Any:
    try:
        return check(value)
    except (TypeError, ValueError, RecursionError) as error:
        # Never show a value under [intake] or [kafka], nor header fields: it may be a secret, and many people may see a message.
        shown = "" if re.search(r"\b(intake|kafka)\.|\bheaders$", what) else f", not {repr(value)[:80]}"
        raise ConfigError(f"{what} takes {error}{shown}") from None


def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """Return `; did you mean X?` if *word* resembles one of *known*, else ""."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def read_setting(text: str, key: str) -> Any:
    """Return the value of the setting *key* that a person means by *text*; raises UsageError."""
    check = checker(key)
    if check is None:
        raise UsageError(
            f"there is no setting {key!r}{did_you_mean(key, KEYS)}", hint="run: rillevents help configuration"
        )
    wanted = "a value"
    for candidate in [text] if key.startswith("attributes.") else _readings(text):
        try:
            check(candidate)
            return candidate
        except (TypeError, ValueError) as error:
            wanted = str(error)
    shown = "" if is_secret(key) else f", not {text!r}"
    raise UsageError(f"{key} takes {wanted}{shown}")


def _readings(text: str) -> list[object]:
    """What *text* may mean, the most likely first: TOML if it is a list, a switch or a number, else text."""
    try:
        typed = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return [text]
    return [typed, text] if isinstance(typed, (bool, int, float, list, dict)) else [text]


def change(paths: Paths, key: str, value: Any) -> bool:
    """Set *key* in config.toml, or remove it if *value* is None; comments and order are kept.

    Returns whether anything changed. Written atomically, 0600; raises ConfigError if the file is broken.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    target = paths.config_file
    if os.path.islink(target):
        raise ConfigError(f"{target} is a link and was not changed", hint="edit the file that it points to")
    try:
        document = tomlkit.parse((read_text_file(target) or b"").decode())
    except (TOMLKitError, ValueError) as error:
        raise ConfigError(f"{target} is not TOML: {error}", hint="correct it, or move it away") from None
    section, _, name = key.partition(".")
    table: Any = document.setdefault(section, tomlkit.table()) if value is not None else document.get(section)
    if not hasattr(table, "keys"):
        if table is None:
            return False
        raise ConfigError(
            f"{target}: {section} is not a table", hint=f"correct it: write [{section}] on a line of its own"
        )
    table, name = _place(table, name)
    if value is None and name not in table:
        return False
    if value is None:
        del table[name]
    else:
        table[name] = value
    prepare_home(paths.home)
    make_folder(target.rpartition("/")[0])
    replace_file(target, tomlkit.dumps(document).encode())
    return True


def _place(table: Any, name: str) -> tuple[Any, str]:
    """Return the table that contains *name*, and its name there: `linger.ms` may be one key or a key of a table."""
    first, dot, rest = name.partition(".")
    if name not in table and dot and hasattr(table.get(first), "keys"):
        return _place(table[first], rest)
    return table, name
