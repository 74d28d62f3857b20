"""Posts to the webhook of a workflow's configuration, as chat services take them: ``{"text": ...}``."""

from datetime import timedelta
from typing import Any

from pydantic import Field, SecretStr, field_validator

from autopilot import Retry, RunContext
from functions._web_address import checked_address
from functions._web_client import FetchFailed, WebClient, WebConfig

POST_SECONDS = 15
POST_RETRY = Retry(attempts=3, first_delay=timedelta(seconds=2))


class WebhookConfig(WebConfig):
    """The configuration of a workflow that posts what it found."""

    webhook_url: SecretStr | None = Field(
        default=None, description='Where it is posted, as JSON: {"text": ...}. None: nowhere.'
    )

    @field_validator("webhook_url")
    @classmethod
    def _is_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            checked_address(value.get_secret_value())
        return value


async def post_text(ctx: RunContext[Any], web: WebClient, webhook: SecretStr, text: str) -> None:
    """Post ``text``; in a step, with its idempotency key.

    Raises:
        FetchFailed: the webhook did not accept it. The reason never holds the webhook's address.
    """
    # A receiver that supports the header accepts a text once, even if the answer to an earlier try was lost.
    headers = {"idempotency-key": ctx.idempotency_key} if ctx.is_durable else {}
    async with web.request(
        "POST",
        webhook.get_secret_value(),
        seconds=POST_SECONDS,
        follow_redirects=False,
        headers=headers,
        json={"text": text},
    ) as response:
        if not response.is_success:
            raise FetchFailed(f"answered {response.status_code}, not 2xx")
