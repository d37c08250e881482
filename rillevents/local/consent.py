"""Whether telemetry is on, and what decided it."""

from __future__ import annotations

from rillevents.local.files import make_folder, prepare_home, read_text_file, replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rillevents.local import Paths

OFF = ("0", "off", "false", "no")
ON = ("1", "on", "true", "yes")


class Consent:
    """The decision: `enabled`, `decided_by` (a variable, a file, or `default`), and a `warning` if there is one."""

    __slots__ = ("decided_by", "enabled", "warning")

    def __init__(self, enabled: bool, decided_by: str, warning: str = "") -> None:
        self.enabled = enabled
        self.decided_by = decided_by
        self.warning = warning


def decide(paths: Paths) -> Consent:
    """Return whether anything may be recorded or sent; off wins over on, wherever it is set.

    Reads one small file and writes nothing. A value that cannot be read or understood counts as off: a typing error must not
    override a wish not to be tracked.
    """
    return decide_by_environment(paths) or _from_file(paths)


def decide_by_environment(paths: Paths) -> Consent | None:
    """Return the decision if the environment says off; else None: it cannot say on against the file. Reads no file."""
    do_not_track = paths.environ.get("DO_NOT_TRACK", "").strip().lower()
    if do_not_track and do_not_track not in OFF:
        return Consent(False, "DO_NOT_TRACK")
    name = paths.app.prefix + "TELEMETRY"
    value = paths.variable("TELEMETRY")
    if value and value.strip().lower() not in ON:
        known = value.strip().lower() in OFF
        return Consent(False, name, "" if known else f"{name}={value!r} is neither on nor off: telemetry is off")
    return None


def _from_file(paths: Paths) -> Consent:
    path = paths.telemetry_file
    try:
        content = read_text_file(path, 64) if path else None
    except OSError as error:
        return Consent(False, path, f"{path} cannot be read: {error.strerror or error}: telemetry is off")
    if content is None and paths.app.asks:
        # The variable can only say on by now, and whoever has set it has agreed.
        return Consent(
            bool(paths.variable("TELEMETRY")),
            paths.app.prefix + "TELEMETRY" if paths.variable("TELEMETRY") else "default",
        )
    if content is None:
        return Consent(True, "default")
    return Consent(content.strip() == b"on", path)


def save(paths: Paths, enabled: bool) -> None:
    """Save the decision permanently, atomically; raises OSError."""
    prepare_home(paths.home)
    make_folder(paths.config_dir)
    replace_file(paths.telemetry_file, b"on\n" if enabled else b"off\n")
