"""Who may call: the key, the dashboard's session, and what tells a page of ours from anybody else's.

Without a key the function is private: IAM stands before it, and whoever gets here may do everything. With one, a call
has it in ``X-API-Key`` or comes from a browser that signed in with it.

A browser holds one cookie: a random number, and once it has signed in the end of the session and our signature. The
CSRF token of its pages is a digest of that number, so that every instance can check it and nobody has to remember it.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from itsdangerous import BadSignature, Signer
from starlette.requests import HTTPConnection
from starlette.responses import Response

from autopilot.core.clock import Clock, random_id
from autopilot.loopback import LOOPBACK_NAMES
from autopilot.settings import Settings

KEY_HEADER = "x-api-key"
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"

SESSION_LENGTH = timedelta(hours=12)

WRONG_KEY_SECONDS = 1.0
"""What an answer to a wrong key takes: guessing is slow."""

log = structlog.get_logger(__name__)

_NONCE_LENGTH = 32


class AccessDenied(Exception):
    """The call is refused: ``status`` is its HTTP answer, ``code`` names the reason for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Session:
    """What a browser holds."""

    nonce: str
    expires_at: datetime | None = None
    """Of a session that signed in; None: it only tells pages of ours from others."""

    @property
    def csrf_token(self) -> str:
        """What a write from a page of this session must carry."""
        return hmac.new(self.nonce.encode(), b"autopilot csrf", hashlib.sha256).hexdigest()


class Access:
    """Decides who may call what."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._key = None if settings.api_key is None else settings.api_key.get_secret_value()
        self._is_local = not settings.in_cloud and self._key is None
        self._clock = clock
        # The key signs: sessions are the same to every instance, and end when the key is changed.
        self._signer = Signer(self._key or random_id(), salt="autopilot.session", digest_method=hashlib.sha256)
        # The prefix has browsers refuse the cookie from other hosts and without Secure. Without a key the cookie
        # opens nothing, and on http://localhost, where the proxy of `autopilot dashboard` is, not every browser
        # would take a secure one.
        self.cookie_name = "__Host-autopilot" if self._key else "autopilot"

    @property
    def needs_sign_in(self) -> bool:
        """Whether there is a key to know."""
        return self._key is not None

    async def check_key(self, given: str) -> None:
        """Refuse a wrong key, slowly, and log that there was one.

        Raises:
            AccessDenied
        """
        if self._key is None or not hmac.compare_digest(given.encode(), self._key.encode()):
            log.warning("api_key_refused")
            await self._clock.sleep(WRONG_KEY_SECONDS)
            raise AccessDenied(401, "unauthorized", "the key is wrong")

    async def check_caller(self, connection: HTTPConnection) -> None:
        """Refuse a caller that has neither key nor session, or a write that no page of ours sent.

        Raises:
            AccessDenied
        """
        self.check_host(connection)
        if self._key is not None and (given := connection.headers.get(KEY_HEADER)) is not None:
            await self.check_key(given)
            return  # no page of another origin can set this header: it would need our leave by CORS
        if self._key is not None and not self.is_signed_in(connection):
            raise AccessDenied(401, "unauthorized", "send the key as X-API-Key, or sign in")

    def check_api_write(self, connection: HTTPConnection) -> None:
        """Refuse a write to the API that a browser sent without its page's token. Programs need none.

        Raises:
            AccessDenied
        """
        if self._key is not None and KEY_HEADER in connection.headers:
            return
        is_browser = any(name in connection.headers for name in ("origin", "sec-fetch-site", "cookie"))
        if is_browser or self._key is not None:
            self.check_token(connection, connection.headers.get(CSRF_HEADER))

    def check_token(self, connection: HTTPConnection, token: str | None) -> None:
        """Refuse what does not come from a page of this session.

        Raises:
            AccessDenied
        """
        # Said by the browser and not by the page; right through proxies too, unlike a comparison of Origin and Host.
        if connection.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise AccessDenied(403, "origin_not_allowed", "this comes from a page of another site")
        session = self.session_of(connection)
        if session is None or token is None or not hmac.compare_digest(token.encode(), session.csrf_token.encode()):
            raise AccessDenied(403, "csrf_token_invalid", "the page is too old or not ours: load it again")

    def check_host(self, connection: HTTPConnection) -> None:
        """On a developer's machine without a key, answer to names of this machine only.

        A page of any site can give its own name our address (DNS rebinding), and would be our origin then.

        Raises:
            AccessDenied
        """
        if self._is_local and connection.url.hostname not in LOOPBACK_NAMES:
            raise AccessDenied(403, "host_not_allowed", "without AUTOPILOT_API_KEY this answers at localhost only")

    def session_of(self, connection: HTTPConnection) -> Session | None:
        """The session that the browser's cookie stands for, if it is one of ours and not over."""
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
        """Whether the browser's session signed in and is not over."""
        session = self.session_of(connection)
        return session is not None and session.expires_at is not None

    def begin_session(self, response: Response, session: Session) -> None:
        """Give the browser a session that is not signed in."""
        self._set_cookie(response, session.nonce)

    def sign_in(self, response: Response) -> None:
        """Give the browser a new session that is signed in; what it held before is worth nothing."""
        expires_at = self._clock.now() + SESSION_LENGTH
        value = self._signer.sign(f"{random_id()}-{int(expires_at.timestamp())}").decode()
        self._set_cookie(response, value, int(SESSION_LENGTH.total_seconds()))

    def sign_out(self, response: Response) -> None:
        """Take the session from the browser."""
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
