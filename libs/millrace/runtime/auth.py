"""Who is asking. Loopback needs no token; any other bind refuses to start without a token file or TLS.

A token file has one line per identity: `token name role,role`; `#` starts a comment. Roles: producer, annotator,
scientist, operator, admin (which includes all others).
"""

from __future__ import annotations

import hashlib
import ipaddress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from millrace.runtime.errors import ConfigurationError, Denied, Unauthenticated
from millrace.runtime.settings import RoomSettings

ROLES = frozenset({"producer", "annotator", "scientist", "operator", "admin"})
COOKIE = "millrace_token"


@dataclass(frozen=True, slots=True)
class Identity:
    """Name and roles behind a token."""

    name: str
    roles: frozenset[str]

    def may(self, role: str) -> bool:
        """Whether this identity has the role; admin has all."""
        return role in self.roles or "admin" in self.roles


LOCAL = Identity("local", ROLES)
_current: ContextVar[Identity] = ContextVar("millrace_identity", default=LOCAL)


def current() -> Identity:
    """The identity of the call being served; `local` where no tokens are asked for."""
    return _current.get()


def enter(identity: Identity) -> None:
    """Make `identity` the current one of this task."""
    _current.set(identity)


def require(role: str) -> Identity:
    """The current identity; Denied when it lacks the role."""
    identity = current()
    if not identity.may(role):
        raise Denied(f"{identity.name} lacks the role {role}")
    return identity


def actor_of(claimed: str) -> str:
    """Who acts: the caller's identity; where no tokens are asked for, the name that the caller gives."""
    identity = current()
    return claimed or identity.name if identity is LOCAL else identity.name


class Authenticator:
    """Token to identity. Tokens are kept as digests, so a look-up takes no time that depends on the secret."""

    def __init__(self, identities: dict[str, Identity]) -> None:
        self._by_digest = {_digest(token): identity for token, identity in identities.items()}

    @property
    def is_open(self) -> bool:
        """Whether no tokens are asked for."""
        return not self._by_digest

    def identify(self, authorization: str) -> Identity:
        """The identity of an `Authorization: Bearer …` value; Unauthenticated when it is missing or unknown."""
        if self.is_open:
            return LOCAL
        scheme, _, token = authorization.partition(" ")
        identity = self._by_digest.get(_digest(token.strip())) if scheme.lower() == "bearer" else None
        if identity is None:
            raise Unauthenticated("a valid bearer token is needed")
        return identity


def load_authenticator(settings: RoomSettings) -> Authenticator:
    """Reads the token file and checks the binds; ConfigurationError in one line."""
    identities = _read_tokens(Path(settings.token_file)) if settings.token_file else {}
    for bind in (settings.grpc_bind, settings.http_bind):
        if not is_loopback(bind) and not identities and not settings.tls_cert:
            raise ConfigurationError(
                f"refusing to bind {bind}: it is not the loopback; set MILLRACE_TOKEN_FILE, or MILLRACE_TLS_CERT and "
                "MILLRACE_TLS_KEY, first"
            )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise ConfigurationError("MILLRACE_TLS_CERT and MILLRACE_TLS_KEY belong together: only one of them is set")
    return Authenticator(identities)


def is_loopback(bind: str) -> bool:
    """Whether `host:port` names this machine only."""
    host = split_bind(bind)[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_bind(bind: str) -> tuple[str, int]:
    """(host, port) of `host:port`; ConfigurationError when it is neither."""
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdigit() or not host:
        raise ConfigurationError(f"bad bind address {bind!r}: it must be host:port")
    return host.strip("[]"), int(port)


def _read_tokens(path: Path) -> dict[str, Identity]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read the token file {path}: {error.strerror}") from error
    identities: dict[str, Identity] = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        roles = frozenset(words[2].split(",")) if len(words) == 3 else frozenset()
        if not roles or not roles <= ROLES:
            raise ConfigurationError(f"{path}:{number}: expected `token name role,role` with roles of {sorted(ROLES)}")
        identities[words[0]] = Identity(words[1], roles)
    if not identities:
        raise ConfigurationError(f"the token file {path} holds no token")
    return identities


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
