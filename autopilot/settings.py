"""The settings, and the only module that reads the environment.

Each field states its variable, its type and its default in one place. Not by pydantic-settings: importing this module
and reading the settings would take 13.6 ms of each cold start instead of 2.8 ms (medians of 21 processes each, with
everything else imported), to replace one line of :func:`load_settings`. A ``.env`` file has to reach the process's
environment in any case, where Google's libraries read it.
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PositiveFloat,
    SecretStr,
    ValidationError,
)

from autopilot.errors import ConfigInvalid, SettingsInvalid

StoreName = Literal["sqlite", "firestore"]

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_MIN_KEY_LENGTH = 16
_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


def _none_if_zero(seconds: Any) -> Any:
    return None if seconds == "0" else seconds  # functions-framework's value for "no timeout"


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    is_plain = re.fullmatch(r"[!-~]+", url) and not {"@", "\\"} & set(parts.netloc) and parts.hostname
    if parts.scheme not in {"http", "https"} or not is_plain or parts.query or parts.fragment:
        raise ValueError("each address must look like 'https://host/path'")
    return url.rstrip("/")


def _hard_to_guess(key: SecretStr | None) -> SecretStr | None:
    if key is not None and len(key) < _MIN_KEY_LENGTH:
        raise ValueError(f"a key needs at least {_MIN_KEY_LENGTH} characters, and this one has {len(key)}")
    return key


def _split_at_commas(text: Any) -> Any:
    return tuple(filter(None, (part.strip() for part in text.split(",")))) if isinstance(text, str) else text


def _host_name(text: str) -> str:
    if _HOST_NAME.fullmatch(text) is None:
        raise ValueError("each host must be a name without a port, like 'runs.example'")
    return text.lower()


HostName = Annotated[str, AfterValidator(_host_name)]


class Settings(BaseModel):
    """The environment variables that Autopilot reads: each field's alias is the name of its variable."""

    model_config = ConfigDict(frozen=True)

    store: StoreName = Field(default="sqlite", validation_alias="AUTOPILOT_STORE")
    sqlite_path: Path = Field(default=Path(".autopilot/autopilot.db"), validation_alias="AUTOPILOT_SQLITE_PATH")
    firestore_database: str = Field(default="(default)", validation_alias="AUTOPILOT_FIRESTORE_DATABASE")
    environment: str = Field(
        default="local", validation_alias="AUTOPILOT_ENVIRONMENT", description="Stands on every log line in the cloud."
    )
    log_file: Path | None = Field(
        default=None,
        validation_alias="AUTOPILOT_LOG_FILE",
        description="Keeps a copy of every logged event; for a developer's machine.",
    )
    project: str | None = Field(default=None, validation_alias="GOOGLE_CLOUD_PROJECT")
    firestore_emulator_host: str | None = Field(default=None, validation_alias="FIRESTORE_EMULATOR_HOST")
    service: str | None = Field(default=None, validation_alias="K_SERVICE", description="Set by Cloud Run.")
    revision: str | None = Field(default=None, validation_alias="K_REVISION", description="Set by Cloud Run.")
    request_timeout_seconds: Annotated[PositiveFloat | None, BeforeValidator(_none_if_zero)] = Field(
        default=None,
        validation_alias="CLOUD_RUN_TIMEOUT_SECONDS",
        description="When the platform ends a request; None if it never does.",
    )
    function_urls: Json[dict[str, Annotated[str, AfterValidator(_base_url)]]] = Field(
        default={},
        validation_alias="AUTOPILOT_FUNCTION_URLS",
        description="A JSON object: the address of each workflow's function.",
    )
    api_key: Annotated[SecretStr | None, AfterValidator(_hard_to_guess)] = Field(
        default=None, validation_alias="AUTOPILOT_API_KEY", description="The secret that the API's callers share."
    )
    api_cors_origins: Annotated[tuple[str, ...], BeforeValidator(_split_at_commas)] = Field(
        default=(),
        validation_alias="AUTOPILOT_API_CORS_ORIGINS",
        description="Origins whose pages may call the API, separated by commas.",
    )

    allowed_hosts: Annotated[tuple[HostName, ...], BeforeValidator(_split_at_commas)] = Field(
        default=(),
        validation_alias="AUTOPILOT_ALLOWED_HOSTS",
        description="Outside the cloud: host names at which functions and API answer, beside localhost; comma-separated.",
    )

    @property
    def in_cloud(self) -> bool:
        """True in an instance of a Cloud Run service, which every Cloud Function is."""
        return self.service is not None


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. Empty variables count as unset.

    Args:
        environ: read instead of the process's environment. By default a ``.env`` file in the working directory is
            loaded first, except in the cloud; variables that are set already win over it.

    Raises:
        SettingsInvalid: the value of a variable is invalid, or the combination cannot work.
    """
    variables = _process_environment() if environ is None else environ
    try:
        settings = Settings.model_validate({name: value for name, value in variables.items() if value})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        variable = str(first["loc"][0])
        shown = "" if variable == "AUTOPILOT_API_KEY" else f", not {first['input']!r}"
        raise SettingsInvalid(variable, f"{first['msg'].removeprefix('Value error, ')}{shown}") from None
    if settings.in_cloud and settings.store == "sqlite":
        raise SettingsInvalid(
            "AUTOPILOT_STORE",
            f"{' or '.join(get_args(StoreName))}: sqlite cannot be used on Cloud Run, which loses its disk with the "
            "instance; set it to firestore",
        )
    return settings


def environment_without_file() -> dict[str, str]:
    """Copy the process's environment without the variables of its ``.env`` file, which a child process reads itself."""
    from_file = _load_env_file(Path.cwd())
    return {name: value for name, value in os.environ.items() if name not in from_file}


def function_target() -> str | None:
    """Name the function that this process serves; functions-framework sets it before it imports ``main.py``."""
    return os.environ.get("FUNCTION_TARGET") or None


def service_revision() -> str | None:
    """Name the Cloud Run revision that this process is an instance of; None elsewhere."""
    return os.environ.get("K_REVISION") or None


def is_in_cloud() -> bool:
    """Return True in an instance of a Cloud Run service, which every Cloud Function is."""
    return bool(os.environ.get("K_SERVICE"))


def load_config(config_type: type[ConfigT], workflow_id: str, *, environ: Mapping[str, str] | None = None) -> ConfigT:
    """Read a workflow's typed configuration from the variables ``<WORKFLOW>_<FIELD>``.

    Values are text and are parsed by the field's type as pydantic parses text; a structured field is declared as
    ``pydantic.Json[...]``. Empty variables count as unset.

    Raises:
        ConfigInvalid: naming every field that is missing or invalid, and never a value: it may be a secret.
    """
    variables = _process_environment() if environ is None else environ
    names = config_variables(config_type, workflow_id)
    values = {field: variables[name] for field, name in names.items() if variables.get(name)}
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        fields = []
        for detail in error.errors(include_url=False, include_input=False):
            field = str(next(iter(detail["loc"]), "Config"))
            fields.append((field, names.get(field, "its variables"), detail["msg"]))
        raise ConfigInvalid(workflow_id, fields) from None


def config_variables(config_type: type[BaseModel], workflow_id: str) -> dict[str, str]:
    """Map each field of a workflow's ``Config`` to the name of its environment variable."""
    return {field: f"{workflow_id}_{field}".upper() for field in config_type.model_fields}


def _process_environment() -> Mapping[str, str]:
    if not is_in_cloud():
        _load_env_file(Path.cwd())
    return os.environ


@cache
def _load_env_file(folder: Path) -> frozenset[str]:
    """Set the variables of the folder's ``.env`` file that are not set yet; return their names."""
    # Once: a workflow's configuration is read at each of its runs. The cloud does not even pay for the import.
    from dotenv import load_dotenv

    before = set(os.environ)
    load_dotenv(folder / ".env")
    return frozenset(os.environ.keys() - before)
