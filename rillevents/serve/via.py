"""A mark on what a server forwards, so that no event goes round: A → B → A, or a server that delivers to itself.

Each server that forwards has a random ID. It sends its own one, and those of the servers that forward to it: all events of such a
server come here, so what is sent back to it would come again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from rillevents.delivery.url import DEFAULT_PORTS, bracketed, is_loopback, origin
from rillevents.serve.options import Options

HEADER = "Rillevents-Via"
_FIELD = HEADER.lower().encode()
_ID = re.compile(r"[0-9a-f]{16}")
_MOST = 64


class Via:
    """The IDs of this server and of those that forward to it."""

    def __init__(self) -> None:
        self._own = os.urandom(8).hex()
        self._seen: dict[str, None] = {}

    def has_passed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has passed this server before; remembers the other servers that it has passed."""
        field = headers.get(_FIELD)
        if not field:
            return False
        for found in _ID.findall(field[: 20 * _MOST].decode("latin-1"))[:_MOST]:
            if found == self._own:
                return True
            self._seen.pop(found, None)
            self._seen[found] = None
        while len(self._seen) > _MOST:
            self._seen.pop(next(iter(self._seen)), None)
        return False

    def headers(self) -> dict[str, str]:
        """Return the mark for a request that this server sends; called in the thread that forwards."""
        return {HEADER: ", ".join([self._own, *list(self._seen)[-_MOST + 1 :]])}


def is_own(url: str, options: Options, port: int) -> bool:
    """Whether a URL leads to the server with these options on *port*, as far as that can be known without asking."""
    scheme, host, to_port = origin(url)
    named = bracketed(host)
    known = [each.lower() for each in options.allow_hosts]
    if f"{named}:{to_port}" in known or (named in known and to_port == DEFAULT_PORTS[scheme]):
        return True
    here = is_loopback(host) or host == options.host.lower() or host in ("0.0.0.0", "::") or named in known  # noqa: S104
    return here and to_port == port
