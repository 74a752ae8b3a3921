"""The guard of every button: a token in a strict cookie must come back in the form, from the same origin."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from fastapi.requests import Request
from fastapi.responses import Response

from millrace.runtime.errors import Denied

COOKIE = "millrace_csrf"
FIELD = "csrf"
HEADER = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def token_of(request: Request) -> str:
    """The token of this browser; a fresh one when it has none yet (then `remember` sets the cookie)."""
    if not hasattr(request.state, "csrf_token"):
        request.state.csrf_token = request.cookies.get(COOKIE) or secrets.token_urlsafe(32)
    return str(request.state.csrf_token)


def remember(request: Request, response: Response) -> None:
    """Sets the cookie that belongs to `token_of`."""
    if request.cookies.get(COOKIE) != token_of(request):
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token_of(request), httponly=True, samesite="strict", secure=secure)


async def guard(request: Request) -> None:
    """FastAPI dependency of every route that changes something. Raises Denied.

    The token is the form field `csrf` or the header `x-csrf-token`. A caller who shows a bearer token in a header is
    no browser driven by a foreign page, and needs no second one.
    """
    if request.method in _SAFE or request.headers.get("authorization"):
        return
    if not _same_origin(request):
        raise Denied("refused: the request comes from another origin")
    given = request.headers.get(HEADER) or await _from_form(request)
    expected = request.cookies.get(COOKIE, "")
    if not expected or not secrets.compare_digest(given.encode(), expected.encode()):
        raise Denied("refused: the page is out of date; load it again")


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _from_form(request: Request) -> str:
    kind = request.headers.get("content-type", "")
    if not kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        return ""
    value = (await request.form()).get(FIELD)
    return value if isinstance(value, str) else ""
