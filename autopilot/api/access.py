"""Access control: the API key, the dashboard's session, and protection against cross-site requests.

Without a key the function is private: IAM protects it, and every caller that IAM lets through may do everything. With
a key, a call sends it in ``X-API-Key`` or comes from a browser that signed in with it.

A browser holds one cookie: a nonce, and once it has signed in the session's end and our signature. The CSRF token of
its pages is a digest of that nonce, so that every instance can check it and none has to store it. Only a session that is
signed out is stored, by a digest, until it would have ended: every instance looks for it at each request of a browser.

Fetch Metadata (``Sec-Fetch-Site``) alone does not replace the token: browsers send it to HTTPS and to localhost only,
and old ones never, while a page served by plain HTTP on a network must not be open to every site that its reader
visits. Comparing ``Origin`` with ``Host`` does not work behind the proxy of ``autopilot dashboard``, which changes
``Host``. The libraries for Starlette (starlette-csrf, asgi-csrf) set a cookie of their own that is not bound to the
session, and answer in a shape of their own.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from itsdangerous import BadSignature, Signer
from starlette.requests import HTTPConnection
from starlette.responses import Response

from autopilot.core.clock import Clock, random_id
from autopilot.core.store import SignOuts
from autopilot.function.senders import check_host_header
from autopilot.function.trigger import RequestRefused
from autopilot.loopback import LOOPBACK_NAMES, parse_host
from autopilot.settings import Settings

KEY_HEADER = "x-api-key"
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"

SESSION_LENGTH = timedelta(hours=12)

WRONG_KEY_SECONDS = 1.0
"""How long the answer to a wrong key takes, so that guessing is slow."""

WRONG_KEYS_AT_ONCE = 20
"""How many such answers wait at a time. More are refused at once: they would fill the instance for everybody else."""

log = structlog.get_logger(__name__)

_NONCE_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A browser's session."""

    nonce: str
    expires_at: datetime | None = None
    """None: the browser has not signed in; the session only carries the CSRF token."""

    @property
    def digest(self) -> str:
        """What stands for the session in a record of it."""
        return hashlib.sha256(self.nonce.encode()).hexdigest()

    @property
    def csrf_token(self) -> str:
        """The token that a write from a page of this session must carry."""
        return hmac.new(self.nonce.encode(), b"autopilot csrf", hashlib.sha256).hexdigest()


class Access:
    """Checks keys, sessions and CSRF tokens, and sets the session's cookie.

    Args:
        sign_outs: returns the record of the sessions that have ended before their time, looked up at each use.
    """

    def __init__(self, settings: Settings, clock: Clock, sign_outs: Callable[[], SignOuts]) -> None:
        self._sign_outs = sign_outs
        self._key = None if settings.api_key is None else settings.api_key.get_secret_value()
        self._is_local = not settings.in_cloud and self._key is None
        self._allowed_hosts = frozenset(settings.allowed_hosts)
        self._clock = clock
        self._slowed = 0
        # Signed with the key: every instance can check a session, and all of them end when the key is changed.
        self._signer = Signer(self._key or random_id(), salt="autopilot.session", digest_method=hashlib.sha256)
        # With the prefix browsers refuse the cookie from other hosts and without Secure. Without a key the cookie
        # grants nothing, and on http://localhost, where the proxy of `autopilot dashboard` is, not every browser
        # accepts a secure one.
        self.cookie_name = "__Host-autopilot" if self._key else "autopilot"

    @property
    def needs_sign_in(self) -> bool:
        """True if callers need a key."""
        return self._key is not None

    async def check_key(self, given: str) -> None:
        """Refuse a wrong key, slowly, and log it.

        Raises:
            RequestRefused
        """
        if self._key is None or not hmac.compare_digest(given.encode(), self._key.encode()):
            log.warning("api_key_refused")
            await self._slow_down()
            raise RequestRefused(401, "unauthorized", "the key is wrong")

    async def _slow_down(self) -> None:
        if self._slowed >= WRONG_KEYS_AT_ONCE:
            raise RequestRefused(429, "too_many_wrong_keys", "too many wrong keys at once; try again in a few seconds")
        self._slowed += 1
        try:
            await self._clock.sleep(WRONG_KEY_SECONDS)
        finally:
            self._slowed -= 1

    async def check_caller(self, connection: HTTPConnection) -> None:
        """Refuse a caller that has neither the key nor a session.

        Raises:
            RequestRefused
            StoreUnavailable: it cannot be known whether the session was signed out.
        """
        if self._key is not None and (given := connection.headers.get(KEY_HEADER)) is not None:
            await self.check_key(given)
            return  # a page of another origin cannot set this header unless CORS allows it
        if self._key is not None and not await self._has_live_session(connection):
            raise RequestRefused(401, "unauthorized", "send the key in X-API-Key, or sign in")

    def check_api_write(self, connection: HTTPConnection) -> None:
        """Refuse a write to the API from a browser without its page's CSRF token. Programs need none.

        Raises:
            RequestRefused
        """
        if self._key is not None and KEY_HEADER in connection.headers:
            return
        is_browser = any(name in connection.headers for name in ("origin", "sec-fetch-site", "cookie"))
        if is_browser or self._key is not None:
            self.check_token(connection, connection.headers.get(CSRF_HEADER))

    def check_token(self, connection: HTTPConnection, token: str | None) -> None:
        """Refuse a request that does not come from a page of this session.

        Raises:
            RequestRefused
        """
        # Set by the browser; no page can change it, and no proxy has to.
        if connection.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise RequestRefused(403, "origin_not_allowed", "the request comes from a page of another site")
        session = self.session_of(connection)
        if session is None or token is None or not hmac.compare_digest(token.encode(), session.csrf_token.encode()):
            raise RequestRefused(403, "csrf_token_invalid", "the page is too old or not from here: reload it")

    def check_host(self, connection: HTTPConnection) -> None:
        """Refuse a host that cannot be parsed; without a key, outside the cloud, any but this machine's own.

        Any site can make its own name resolve to our address (DNS rebinding), and would then be our origin.

        Raises:
            RequestRefused
        """
        check_host_header(connection.headers)
        if not self._is_local:
            return
        name, _ = parse_host(connection.headers.get("host", "")) or ("", "")
        if name.strip("[]") not in LOOPBACK_NAMES and name not in self._allowed_hosts:
            message = (
                "without AUTOPILOT_API_KEY it is served at localhost and the hosts in AUTOPILOT_ALLOWED_HOSTS only"
            )
            raise RequestRefused(403, "host_not_allowed", message)

    def session_of(self, connection: HTTPConnection) -> Session | None:
        """The session in the browser's cookie, or None if it is not ours or has ended."""
        cookie = connection.cookies.get(self.cookie_name, "")
        if len(cookie) == _NONCE_LENGTH and cookie.isalnum():
            return Session(cookie)
        try:
            nonce, seconds = self._signer.unsign(cookie.encode()).decode().split("-")
            session = Session(nonce, datetime.fromtimestamp(int(seconds), self._clock.now().tzinfo))
        except (BadSignature, ValueError, OverflowError):
            return None
        return session if session.expires_at is not None and self._clock.now() < session.expires_at else None

    def is_signed_in(self, connection: HTTPConnection) -> bool:
        """True if the browser has signed in and its session has not ended."""
        session = self.session_of(connection)
        return session is not None and session.expires_at is not None

    async def _has_live_session(self, connection: HTTPConnection) -> bool:
        session = self.session_of(connection)
        if session is None or session.expires_at is None:
            return False
        return not await self._sign_outs().has_ended(session.digest)

    def begin_session(self, response: Response, session: Session) -> None:
        """Set the cookie of a session that has not signed in."""
        self._set_cookie(response, session.nonce)

    def sign_in(self, response: Response) -> None:
        """Set the cookie of a new session that has signed in; the one before it is worth nothing."""
        expires_at = self._clock.now() + SESSION_LENGTH
        value = self._signer.sign(f"{random_id()}-{int(expires_at.timestamp())}").decode()
        self._set_cookie(response, value, int(SESSION_LENGTH.total_seconds()))

    async def sign_out(self, connection: HTTPConnection, response: Response) -> None:
        """End the session, wherever its cookie may have been copied to, and remove the cookie.

        Raises:
            StoreUnavailable: the session could not be ended.
        """
        session = self.session_of(connection)
        if session is not None and session.expires_at is not None:
            await self._sign_outs().end_session(session.digest, expires_at=session.expires_at)
        response.delete_cookie(self.cookie_name, path="/", secure=self.needs_sign_in, httponly=True, samesite="strict")

    def _set_cookie(self, response: Response, value: str, max_age: int | None = None) -> None:
        response.set_cookie(
            self.cookie_name,
            value,
            max_age=max_age,
            path="/",
            secure=self.needs_sign_in,
            httponly=True,
            samesite="strict",
        )
