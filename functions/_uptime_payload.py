"""What an uptime check is asked to do: its targets, and the answer that makes each count as up."""

import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from functions._web_address import PlainAddress

MAX_TARGETS = 50
MAX_TARGET_SECONDS = 30
MAX_TRIES = 5
MAX_HEADERS = 20

_REDIRECTS = (301, 302, 303, 307, 308)
_SUCCESSES = range(200, 300)

_STATUS_RANGE = re.compile(r"([2-9]\d\d)(?:\s*-\s*([2-9]\d\d))?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?")
_OUR_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"upgrade"}
)
_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})


def _range_of(status: Any) -> range:
    text = str(status) if isinstance(status, int | str) and not isinstance(status, bool) else ""
    found = _STATUS_RANGE.fullmatch(text.strip())
    accepted = range(int(found[1]), int(found[2] or found[1]) + 1) if found is not None else range(0)
    if not accepted:
        raise ValueError('must be a number from 200 to 999, a range such as "200-299", or a list of these')
    return accepted


def _checked_status(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        _range_of(value)
        return value
    if not 1 <= len(value) <= 20:
        raise ValueError("must list 1 to 20 numbers or ranges")
    for item in value:
        _range_of(item)
    return list(value)


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    lowered = [name.lower() for name in headers]
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or (value and not _HEADER_VALUE.fullmatch(value)):
            raise ValueError("must have names and values of visible ASCII characters, values of at most 1,000")
        if name.lower() in _CREDENTIALS:
            raise ValueError(f"must not have {name}: payloads are stored and shown; use basic_auth")
        if name.lower() in _OUR_HEADERS:
            raise ValueError(f"must not have {name}, which is about the connection")
        if lowered.count(name.lower()) > 1:
            raise ValueError(f"must have {name} once")
    return headers


class Target(BaseModel):
    """One address, and the answer that makes it count as up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: PlainAddress = Field(description="An http or https address; without a scheme, https.")
    name: str = Field(
        default="",
        max_length=100,
        description="Its name in reports, which identifies it from run to run; the address when empty.",
    )
    method: Literal["GET", "HEAD"] = Field(default="GET", description="HEAD requests no body.")
    status: Annotated[
        int | str | list[int | str] | None,
        PlainValidator(_checked_status, json_schema_input_type=int | str | list[int | str] | None),
    ] = Field(
        default=None,
        description='The expected status: a number, a range such as "200-299", or a list. Default: any 2xx.',
    )
    text: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None,
        description="Text that the first MiB of the body must contain, in whatever charset the page declares.",
    )
    timeout_seconds: float = Field(
        default=10,
        ge=0.1,
        le=MAX_TARGET_SECONDS,
        description="For the whole answer of one try, redirects and body included.",
    )
    confirm: int = Field(
        default=2,
        ge=1,
        le=MAX_TRIES,
        description="Tries, two seconds apart, of which each must fail before the target counts as down.",
    )
    headers: Annotated[dict[str, str], AfterValidator(_checked_headers)] = Field(
        default={},
        max_length=MAX_HEADERS,
        description="Sent with the request; a redirect to another host gets none that may be a secret. Not for "
        "passwords: payloads are stored and shown.",
    )
    basic_auth: bool = Field(
        default=False,
        description="Send the user name and password that the secret UPTIME_CHECK_BASIC_AUTH has for this host.",
    )
    follow_redirects: bool | None = Field(
        default=None, description="Up to 5. Default: unless the expected status includes a redirect's."
    )
    verify_tls: bool = Field(
        default=True, description="False accepts every TLS certificate; its days are reported all the same."
    )

    @model_validator(mode="after")
    def _text_needs_a_body(self) -> Self:
        if self.text is not None and self.method == "HEAD":
            raise ValueError("text needs method GET: the answer to HEAD has no body")
        return self

    @property
    def label(self) -> str:
        return self.name or shortened(self.url)

    @property
    def key(self) -> str:
        """Identifies the target in other runs: a digest of its name, or of every field but those of its patience."""
        asked = self.name or self.model_dump_json(exclude={"timeout_seconds", "confirm"}, exclude_defaults=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    def accepts(self, status: int) -> bool:
        """Whether the target is up if it answers ``status``."""
        return any(status in accepted for accepted in self._accepted())

    @property
    def expected(self) -> str:
        """The expected status, for people."""
        if self.status is None:
            return "2xx"
        return " or ".join(map(str, self.status)) if isinstance(self.status, list) else str(self.status)

    @property
    def follows(self) -> bool:
        """Whether redirects are followed."""
        if self.follow_redirects is not None:
            return self.follow_redirects
        return not any(map(self.accepts, _REDIRECTS))

    def _accepted(self) -> Iterable[range]:
        if self.status is None:
            return (_SUCCESSES,)
        return map(_range_of, self.status if isinstance(self.status, list) else (self.status,))


def shortened(address: str) -> str:
    """``address`` for people: its first 200 characters."""
    return address if len(address) <= 200 else f"{address[:199]}…"


def _with_fields(target: Any) -> Any:
    return {"url": target} if isinstance(target, str) else target


class UptimeCheckInput(BaseModel):
    """The targets to check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[Annotated[Target, BeforeValidator(_with_fields, json_schema_input_type=str | Target)], ...] = Field(
        min_length=1,
        max_length=MAX_TARGETS,
        description="Addresses, or objects with an address and more. Checked in parallel, ten at a time.",
    )
    certificate_warning_days: int = Field(
        default=14, ge=0, le=365, description="A TLS certificate with fewer days left is reported as expiring."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets if target.name]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"names of targets must differ: {', '.join(sorted(repeated))} is used twice")
        return self
