"""Where a user's events go: the configured intake and its credentials, or what `--to` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rillevents.delivery.credentials import read_password
from rillevents.delivery.url import IntakeSettings, is_kafka, origin
from rillevents.errors import ConfigError
from rillevents.local import Paths, config
from rillevents.local.config_file import is_secret
from rillevents.local.headers import headers_of

# The part after RILLEVENTS_KAFKA_ → the setting that it sets.
_KAFKA_VARIABLES = {
    "SASL_USERNAME": "sasl.username",
    "SASL_PASSWORD": "sasl.password",
    "SASL_OAUTHBEARER_CLIENT_SECRET": "sasl.oauthbearer.client.secret",
    "SSL_KEY_PASSWORD": "ssl.key.password",
    "SSL_KEYSTORE_PASSWORD": "ssl.keystore.password",
}


def destination_name(paths: Paths, settings: config.Config, to: str = "") -> str:
    """Return the destination: the flag, the environment, config.toml, or else the configured intake."""
    return to or paths.variable("TO") or settings.get("flush", "to", "intake")


def intake_settings(
    paths: Paths,
    settings: config.Config,
    *,
    secrets: bool = True,
    timeout: float | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> IntakeSettings | None:
    """Return the configured intake, None if there is none; raises ConfigError if its password is not available.

    The environment wins over config.toml for each key, and a token wins over a password. Credentials of config.toml only go to
    its own URL. Without *secrets* no password file is read and no command is run.
    """
    configured = settings.get("intake", "url", "")
    url = paths.variable("INTAKE_URL") or configured
    if not url:
        return None
    names = ("user", "password", "password_file", "token", "headers")
    told: dict[str, Any] = {name: value for name in names if (value := paths.variable(f"INTAKE_{name.upper()}"))}
    if "token" in told:
        told = {name: told[name] for name in ("token", "headers") if name in told}
    if "headers" in told:
        told["headers"] = headers_of(f"{paths.app.prefix}INTAKE_HEADERS", told["headers"])
    within = IntakeSettings.from_url(url)
    at_home = configured and origin(within.url) == origin(IntakeSettings.from_url(configured).url)
    if at_home and (url == configured or not within.user):
        told = _merged(settings.sections.get("intake", {}), told)
    elif at_home:
        # The URL has a user of its own; header fields that are no such credentials stay.
        kept = _merged({"headers": settings.get("intake", "headers", {})}, {"user": within.user})["headers"]
        told = {"headers": kept, **told}
    password = read_password(told, warn, timeout) if secrets else None
    found = IntakeSettings.from_url(
        url, user=told.get("user"), password=password, token=told.get("token"), headers=told.get("headers")
    )
    if secrets and found.user and not found.password:
        warn(f"there is no password for user {found.user}; an empty one is sent")
    return found


def kafka_settings(paths: Paths, settings: config.Config, to: str = "") -> dict[str, Any]:
    """Return the settings under `[kafka]`, overridden by the credentials of the environment.

    Raises ConfigError if config.toml contains a secret and *to* names other brokers than `flush.to`, to which it belongs.
    """
    configured = settings.sections.get("kafka", {})
    told = {
        name: value for variable, name in _KAFKA_VARIABLES.items() if (value := paths.variable(f"KAFKA_{variable}"))
    }
    home = settings.get("flush", "to", "")
    if is_kafka(to) and is_kafka(home) and any(is_secret(f"kafka.{name}") for name in {*configured} - {*told}):
        from rillevents.delivery.exporters.kafka.settings import KafkaAddress

        servers, known = (set(KafkaAddress.from_url(url).servers) for url in (to, home))
        if not servers <= known:
            hint = "set them in the environment: rillevents help kafka"
            raise ConfigError("the credentials under [kafka] are for the brokers of flush.to, not for these", hint=hint)
    return {**configured, **told}


def _merged(configured: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Override config.toml's credentials with those of the environment; one method of authentication replaces another."""
    merged = dict(configured)
    if "token" in told:
        merged = {name: merged[name] for name in ("headers",) if name in merged}
    elif told.keys() - {"headers"}:
        merged.pop("token", None)
    if "password" in told or "password_file" in told:
        for key in ("password", "password_file", "password_command"):
            merged.pop(key, None)
    if told.keys() & {"user", "token"} and "headers" in merged:
        fields = merged["headers"].items()
        merged["headers"] = {name: value for name, value in fields if name.lower() != "authorization"}
    return merged | dict(told)
