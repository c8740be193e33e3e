"""Addresses of cameras: what of them may be shown."""

import re

_SECRET = re.compile(r"(?i)((?:pass|pwd|psw|user|usr|login|token|auth|secret|key)[^=&/;]*)=[^&/;]*")


def shown(source: str) -> str:
    """Return a source fit for a log: no user and password, no query, nothing that is called a password.

    Args:
        source: As in `device.yaml`.
    """
    scheme, found, rest = source.partition("://")
    if not found:
        return source
    address = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = address.partition("/")
    if "@" not in host and not re.fullmatch(r"[^:]*(:\d*)?|\[.*](:\d*)?", host):
        # A password with a slash of its own, not escaped: it ends at the last @ there is.
        host, slash, path = rest.rpartition("@")[2].partition("/")
        path = re.split(r"[?#]", path, maxsplit=1)[0]
    path = _SECRET.sub(r"\1=...", path)
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
