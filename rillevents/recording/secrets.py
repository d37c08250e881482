"""What secrets look like: token forms published by their issuers, JWTs, private keys, passwords in URLs.

Each alternative starts at a word boundary and repeats without backtracking, so a hostile text takes time in proportion to
its length, not to its square.
"""

from __future__ import annotations

import re

from rillevents.event import MAX_EVENT_BYTES

_TOKEN = re.compile(
    r"""
    # Starts after a character that cannot belong to it, or after an escape (\n in a log, %3D in a URL, a colour).
    (?:(?<![\w-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4})|(?<=\x1b\[[0-9]m)|(?<=\x1b\[[0-9]{2}m))
    (?:
      eyJ[\w-]{12,}+(?:\.[\w-]*+){2,4}+                                   # JWT: JWS (RFC 7515), JWE (RFC 7516)
    | (?:AKIA|ASIA)[A-Z0-9]{16}(?![\w-])                                  # AWS access key ID
    | gh[pousr]_[A-Za-z0-9]{36,}+ | github_pat_\w{22,}+                   # GitHub
    | glpat-[\w-]{20,}+                                                   # GitLab
    | xox[a-z]-[\w-]{12,}+ | xapp-[\w-]{12,}+                         # Slack
    | [rs]k_(?:live|test)_\w{16,}+                                        # Stripe
    | sk-(?:ant|proj|svcacct|admin)-[\w-]{20,}+ | sk-\w*?T3BlbkFJ\w{8,}+  # Anthropic, OpenAI
    | AIza[\w-]{35} | ya29\.[\w.-]{20,}+                                   # Google
    | npm_[A-Za-z0-9]{36} | pypi-AgE[\w-]{40,}+                           # npm, PyPI
    | hf_[A-Za-z0-9]{30,}+                                                # Hugging Face
    | dop_v1_[a-f0-9]{64}                                                 # DigitalOcean
    | SG\.[\w-]{16,}+\.[\w-]{16,}+                                        # SendGrid
    | rill_(?:usr|svc|dpl|mgc)_\w{20,}+                                   # Rill
    )""",
    re.VERBOSE | re.ASCII,
)
# Several times what an event holds, so that a secret at the place where the text is cut is found whole.
_SEARCHED = 4 * MAX_EVENT_BYTES
# A key that was cut off has no end: then everything after it is removed.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
# The scheme and the host stay: they are useful. (RFC 3986, section 3.2.1)
_URL_CREDENTIALS = re.compile(r'(?<=://)[^\s/?#:"<>]*+:[^\s/?#"<>]*(?=@)')
# After `Bearer` alone a digit must follow somewhere: "the bearer of bad-news-everybody" is not a secret.
_HEADER = re.compile(
    r"""
      ((?:[Aa]uthorization|AUTHORIZATION)\\*+["']?\s*+[:=]\s*+\\*+["']?(?i:basic|bearer|token)\s++)[^\s"',;\\]++
    | (?<![\w-])((?:[Bb]earer|BEARER)\s++)(?=[^\s0-9]*+[0-9])[^\s"',;\\]{16,}+
    """,
    re.VERBOSE | re.ASCII,
)


def redacted(text: str, replacement: str) -> str:
    """Return *text* with every secret replaced; of a text that no event holds whole, only the start, which is searched."""
    if len(text) > _SEARCHED:
        return f"{redacted(text[:_SEARCHED], replacement)}…"
    text = _PRIVATE_KEY.sub(replacement, text)
    text = _URL_CREDENTIALS.sub(replacement, text)
    text = _HEADER.sub(lambda found: f"{found[1] or found[2]}{replacement}", text)
    return _TOKEN.sub(replacement, text)
