"""Who may ask: bearer keys on every route but the probes; without keys, this machine's own users and no web page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import Failure
from .json_response import send_failure
from .settings import ServerSettings, loopback

# They say whether the server lives and is ready, nothing else: orchestrators ask without a key.
PROBES = frozenset({
    "/livez", "/readyz", "/health", "/ping", "/infinity/health", "/v1/health/live", "/v1/health/ready",
    "/.well-known/live", "/.well-known/ready",
})  # fmt: skip


class Keys:
    """The accepted keys, as digests. Without any, everybody is let in."""

    def __init__(self, settings: ServerSettings, *, keyless: bool = False) -> None:
        """`keyless`: as if there were none."""
        self._digests = () if keyless else tuple(hashlib.sha256(key).digest() for key in settings.bearer_keys())

    def __bool__(self) -> bool:
        return bool(self._digests)

    def client(self, header: bytes) -> str | None:
        """Whose requests come with this Authorization header; None for a key that is none of ours."""
        key = self._key(header)
        return None if key is None else hashlib.sha256(key).hexdigest()[:16]

    def _key(self, header: bytes) -> bytes | None:
        """The digest of the key in Bearer KEY, or in Basic with the key as password: what a browser asks its user for.

        However a header is spelt, a key is one client.
        """
        scheme, _, value = header.partition(b" ")
        if scheme.lower() == b"basic":
            try:
                value = base64.b64decode(value.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return None
        elif scheme.lower() != b"bearer":
            return None
        # Digests have one length and every key is compared, so time tells nothing of a key.
        digest = hashlib.sha256(value.strip()).digest()
        return digest if sum(hmac.compare_digest(digest, known) for known in self._digests) else None


def no_key() -> Failure:
    """What a request without an accepted key is told."""
    return Failure("unauthorized", "missing or wrong key; send the header Authorization: Bearer KEY")


class Auth:
    """Refuses a request without a key (401), from a foreign web page, or to a foreign name (403)."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, *, keyless: bool = False, any_host: bool = False
    ) -> None:
        """`keyless`: no key is asked for, whatever the settings hold (probes and metrics of the second listener).

        `any_host`: by whatever name it is called, which a listener beyond loopback cannot know.
        """
        self._app = app
        self._keys = Keys(settings, keyless=keyless)
        self._any_host = any_host
        self._names = frozenset({"localhost", *settings.allowed_hosts})
        self._origins = frozenset(settings.cors_allow_origins)
        self._known = lru_cache(maxsize=64)(self._is_known)  # reading an address is a dozen calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["path"] in PROBES and scope["method"] == "GET"):
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        failure = self._refused(headers)
        if failure is None:
            scope.setdefault("state", {})["client"] = self._client(headers, scope)
            return await self._app(scope, receive, send)
        if failure.kind == "unauthorized" and b"text/html" in headers.get(b"accept", b""):
            return await _ask_browser(failure, scope, send)
        await send_failure(failure, scope, send)

    def _refused(self, headers: dict[bytes, bytes]) -> Failure | None:
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin")
        # A browser sends a page's requests here with the user's rights: only our own page may, and those let in.
        if origin is not None and not self._is_ours(origin.decode("latin-1"), host):
            return Failure("forbidden", "requests of other web pages are refused; see cors_allow_origins")
        if not self._keys:
            # Without a key, a page could still rebind its own name to 127.0.0.1 and read the answers.
            if self._any_host or self._known(host):
                return None
            return Failure("forbidden", "this server does not answer to this Host; see allowed_hosts")
        return no_key() if self._keys.client(headers.get(b"authorization", b"")) is None else None

    def _is_ours(self, origin: str, host: str) -> bool:
        return origin.partition("://")[2] == host or origin in self._origins or "*" in self._origins

    def _client(self, headers: dict[bytes, bytes], scope: Scope) -> str:
        """Whose turn a request takes at the device: its key's, without keys its address's."""
        if self._keys:
            return self._keys.client(headers[b"authorization"]) or ""
        return str((scope.get("client") or ("",))[0])

    def _is_known(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return name in self._names or loopback(name)


async def _ask_browser(failure: Failure, scope: Scope, send: Send) -> None:
    async def asking(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message["headers"] if pair[0] != b"www-authenticate"]  # type: ignore[attr-defined]
            message = {**message, "headers": [*headers, (b"www-authenticate", b'Basic realm="tandem"')]}
        await send(message)

    await send_failure(failure, scope, asking)  # type: ignore[arg-type]
