"""Scripts, styles and pictures of the pages, under an address that changes with what is in them.

A browser asks for each of them once: what is under such an address never changes. They are read when
the program starts, so that no page waits for a disk.
"""

import gzip
import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_IMPORT = re.compile(r'^(?:import|export)\b[^"\n]*"\./([\w-]+\.js)"', re.MULTILINE)
_KINDS = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}


@cache
def _everything() -> dict[str, bytes]:
    folder = files("dashboard") / "static"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir(), key=lambda path: path.name)}


@cache
def version() -> str:
    """Return what stands for the content of all of them."""
    told = hashlib.sha256()
    for name, content in _everything().items():
        told.update(f"{name}\0{len(content)}\0".encode() + content)
    return told.hexdigest()[:16]


@cache
def needed(script: str) -> tuple[str, ...]:
    """Return the modules that a script imports, itself or through others: a page asks for all at once."""
    found: dict[str, None] = {}
    waiting = [script]
    while waiting:
        for name in _IMPORT.findall(_everything()[waiting.pop()].decode()):
            if name not in found:
                found[name] = None
                waiting.append(name)
    return tuple(found)


@cache
def _packed(name: str) -> bytes:
    # The same bytes each time: no moment is written into it.
    return gzip.compress(_everything()[name], mtime=0)


async def asset(request: Request) -> Response:
    """Answer with one of them."""
    name = request.path_params["name"]
    if request.path_params["version"] != version() or name not in _everything():
        raise HTTPException(404)
    kind = _KINDS[name.rpartition(".")[2]]
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_packed(name), media_type=kind, headers={**_HEADERS, "Content-Encoding": "gzip"})
    return Response(_everything()[name], media_type=kind, headers=_HEADERS)
