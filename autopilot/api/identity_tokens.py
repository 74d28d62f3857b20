"""Identity tokens of this service, with which Cloud Run's IAM lets it call the workflows' functions."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Credentials(Protocol):
    """The credentials of google-auth for one audience; they know when their token ends."""

    @property
    def token(self) -> str | None: ...

    @property
    def valid(self) -> bool: ...

    def refresh(self, request: object) -> None: ...


class IdentityUnavailable(Exception):
    """google-auth has no identity token for this service."""


class IdentityTokens:
    """Gives the identity token for an audience. google-auth keeps each until shortly before it expires.

    Args:
        credentials_for: gives the credentials for an audience; default: this service's own.
        request: google-auth's transport; default: its own.
    """

    def __init__(
        self, credentials_for: Callable[[str], Credentials] | None = None, request: object | None = None
    ) -> None:
        self._credentials_for = credentials_for or _own_credentials
        self._request = request
        self._credentials: dict[str, Credentials] = {}

    async def __call__(self, audience: str) -> str:
        """The token for ``audience``, the address of a function.

        Raises:
            IdentityUnavailable
        """
        credentials = self._credentials.get(audience)
        if credentials is None or not credentials.valid:
            credentials = self._credentials[audience] = await asyncio.to_thread(self._refreshed, audience, credentials)
        return str(credentials.token)

    def _refreshed(self, audience: str, credentials: Credentials | None) -> Credentials:
        # Only in the cloud: google-auth comes with the Firestore client.
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import Request

        try:
            credentials = credentials or self._credentials_for(audience)
            credentials.refresh(self._request or Request())
        except GoogleAuthError as error:
            raise IdentityUnavailable(str(error)) from error
        return credentials


def _own_credentials(audience: str) -> Credentials:
    from google.oauth2.id_token import fetch_id_token_credentials

    credentials: Credentials = fetch_id_token_credentials(audience)  # type: ignore[no-untyped-call]
    return credentials
