"""`rillevents config …`: read and change config.toml, one setting at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rillevents.cli.command import group, paths, register
from rillevents.cli.result import Result
from rillevents.errors import RilleventsError, UsageError

if TYPE_CHECKING:
    from rillevents.local.config import Config

app = group(
    "Show and change the settings in config.toml.", "rillevents config set intake.url https://intake.example.com/events"
)


def _complete_key(incomplete: str) -> list[str]:
    from rillevents.local.config_file import KEYS

    return [key for key in KEYS if key.startswith(incomplete)]


Key = Annotated[str, typer.Argument(metavar="KEY", help="For example intake.url.", autocompletion=_complete_key)]


@register(app, "path", "rillevents config path")
def path() -> Result:
    """Print the path of config.toml, which need not exist."""
    return Result("text", _file())


@register(app, "list", "rillevents config list --json", json=True)
def list_() -> Result:
    """Print all settings, except secrets."""
    from rillevents.local import config

    settings = config.load(paths())
    found = _flat(settings)
    told = [] if found else [f"no settings in {_file()}"]
    return Result("settings", found, messages=(*settings.warnings, *told))


@register(app, "get", "rillevents config get intake.url", json=True)
def get(key: Key) -> Result:
    """Print one setting."""
    from rillevents.local import config
    from rillevents.local.config_file import is_secret

    _check_key(key)
    found = _flat(config.load(paths()))
    if key not in found:
        value = "" if is_secret(key) else " VALUE"
        raise UsageError(f"{key} is not set", hint=f"run: rillevents config set {key}{value}")
    return Result("setting", found[key])


@register(
    app,
    "set",
    """
rillevents config set intake.url https://intake.example.com/events
rillevents config set filter.drop_types '["metric"]'
rillevents config set intake.password < password.txt
""",
    json=True,
)
def set_(
    key: Key,
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="Leave it out for secrets: they are prompted for.")
    ] = None,
) -> Result:
    """Set one setting. A secret is read from a prompt or stdin, never from an argument."""
    from rillevents.local.config_file import is_secret, read_setting

    _check_key(key)
    if is_secret(key):
        if value is not None:
            raise UsageError(
                f"{key} is a secret, and other users can see arguments", hint=f"run: rillevents config set {key}"
            )
        value = _secret(key)
    if value is None:
        raise UsageError(f"{key} needs a value", hint=f"run: rillevents config set {key} VALUE")
    typed = read_setting(value, key)
    if key == "intake.url" or (key == "flush.to" and "//" in value and not value.lower().startswith("file:")):
        _check_url(key, value)
    _write(key, typed)
    return Result("done", {"key": key}, messages=(f"{key} is set in {_file()}",))


@register(app, "unset", "rillevents config unset flush.to", json=True)
def unset(key: Key) -> Result:
    """Remove one setting, so that its default applies again."""
    _check_key(key)
    done = _write(key, None)
    return Result("done", {"key": key}, messages=(f"{key} is no longer set" if done else f"{key} was not set",))


def _write(key: str, value: Any) -> bool:
    from rillevents.local.config_file import change

    try:
        return change(paths(), key, value)
    except OSError as error:
        raise RilleventsError(f"{_file()} cannot be written: {error.strerror or error}") from None


def _file() -> str:
    found = paths().config_file
    if not found:
        raise RilleventsError(
            "there is no config folder (no home folder)", hint="set RILLEVENTS_HOME or RILLEVENTS_CONFIG"
        )
    return found


def _check_key(key: str) -> None:
    from rillevents.local.config_file import KEYS, checker, did_you_mean

    if checker(key) is None:
        raise UsageError(
            f"there is no setting {key!r}{did_you_mean(key, KEYS)}", hint="run: rillevents help configuration"
        )


def _check_url(key: str, url: str) -> None:
    from rillevents.delivery.exporters.kafka.settings import KafkaAddress
    from rillevents.delivery.url import is_kafka, is_otlp, split_url, without_otlp, without_userinfo
    from rillevents.errors import ConfigError

    user = "rillevents config set intake.user USER && rillevents config set intake.password"
    if url != without_userinfo(url) and not is_kafka(url):
        raise UsageError(
            "the URL contains a user or password, and other users can see arguments",
            hint="set it without them, then run: " + ("rillevents config set otlp.headers" if is_otlp(url) else user),
        )
    address = without_otlp(url) if key == "flush.to" else url
    try:
        (KafkaAddress.from_url if is_kafka(url) else split_url)(address)
    except ConfigError as error:
        raise UsageError(error.message, hint=error.hint) from None


def _secret(key: str) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        return str(typer.prompt(key, hide_input=True, err=True))
    return (sys.stdin.readline() if sys.stdin is not None else "").rstrip("\r\n")


def _flat(settings: Config) -> dict[str, Any]:
    return {
        f"{section}.{key}": _shown(f"{section}.{key}", value)
        for section, table in settings.sections.items()
        for key, value in table.items()
    }


def _shown(key: str, value: Any) -> Any:
    from rillevents.local.config_file import is_secret

    if isinstance(value, dict) and key.endswith(".headers"):
        return dict.fromkeys(value, "***")
    if is_secret(key):
        return "(secret)"
    if key in ("intake.url", "flush.to"):
        from rillevents.delivery.url import without_userinfo

        return without_userinfo(value)
    return value


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="config")
