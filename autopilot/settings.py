"""The settings: the only place where the environment is read."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json, SecretStr, ValidationError

from autopilot.errors import ConfigInvalid, SettingsInvalid

StoreName = Literal["sqlite", "firestore"]

_VARIABLES = {
    "store": "AUTOPILOT_STORE",
    "sqlite_path": "AUTOPILOT_SQLITE_PATH",
    "firestore_database": "AUTOPILOT_FIRESTORE_DATABASE",
    "environment": "AUTOPILOT_ENVIRONMENT",
    "log_file": "AUTOPILOT_LOG_FILE",
    "project": "GOOGLE_CLOUD_PROJECT",
    "firestore_emulator_host": "FIRESTORE_EMULATOR_HOST",
    "service": "K_SERVICE",
    "revision": "K_REVISION",
    "request_timeout_seconds": "CLOUD_RUN_TIMEOUT_SECONDS",
    "function_urls": "AUTOPILOT_FUNCTION_URLS",
    "api_key": "AUTOPILOT_API_KEY",
    "api_cors_origins": "AUTOPILOT_API_CORS_ORIGINS",
}

SHORTEST_KEY = 16
"""How many characters a key of the API has at least."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("each address must be one as in 'https://host/path'")
    return url.rstrip("/")


def _listed(text: Any) -> Any:
    return tuple(filter(None, (part.strip() for part in text.split(",")))) if isinstance(text, str) else text


def _hard_to_guess(key: SecretStr | None) -> SecretStr | None:
    if key is not None and len(key) < SHORTEST_KEY:
        raise ValueError(f"a key needs at least {SHORTEST_KEY} characters, and this one has {len(key)}")
    return key


class Settings(BaseModel):
    """What the environment says. Empty variables count as unset."""

    model_config = ConfigDict(frozen=True)

    store: StoreName = Field(default="sqlite", description="AUTOPILOT_STORE")
    sqlite_path: Path = Field(default=Path(".autopilot/autopilot.db"), description="AUTOPILOT_SQLITE_PATH")
    firestore_database: str = Field(default="(default)", description="AUTOPILOT_FIRESTORE_DATABASE")
    environment: str = Field(default="local", description="AUTOPILOT_ENVIRONMENT, on every log line")
    log_file: Path | None = Field(
        default=None, description="AUTOPILOT_LOG_FILE: events are kept in it too; on a developer's machine"
    )
    project: str | None = Field(default=None, description="GOOGLE_CLOUD_PROJECT")
    firestore_emulator_host: str | None = Field(default=None, description="FIRESTORE_EMULATOR_HOST")
    service: str | None = Field(default=None, description="K_SERVICE: set by Cloud Run")
    revision: str | None = Field(default=None, description="K_REVISION: set by Cloud Run")
    request_timeout_seconds: float | None = Field(
        default=None, gt=0, description="CLOUD_RUN_TIMEOUT_SECONDS: when the platform ends a request"
    )
    function_urls: Json[dict[str, Annotated[str, AfterValidator(_base_url)]]] = Field(
        default={}, description="AUTOPILOT_FUNCTION_URLS: a JSON object, the address of each workflow's function"
    )
    api_key: Annotated[SecretStr | None, AfterValidator(_hard_to_guess)] = Field(
        default=None, description="AUTOPILOT_API_KEY: what a caller of the API must know"
    )
    api_cors_origins: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        default=(), description="AUTOPILOT_API_CORS_ORIGINS: origins whose pages may call the API, between commas"
    )

    @property
    def in_cloud(self) -> bool:
        """Whether this process is an instance of a Cloud Run service, as every Cloud Function is."""
        return self.service is not None


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        environ: instead of the process's environment. Without it a ``.env`` file in the working directory is read
            first, except in the cloud; what is set already wins.

    Raises:
        SettingsInvalid: a variable has a value that cannot be used, or the combination cannot work.
    """
    variables = _process_environment() if environ is None else environ
    values = {field: variables[name] for field, name in _VARIABLES.items() if variables.get(name)}
    if values.get("request_timeout_seconds") == "0":  # functions-framework's way to say: no timeout
        del values["request_timeout_seconds"]
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        told = "" if field == "api_key" else f", not {first['input']!r}"
        raise SettingsInvalid(_VARIABLES[field], f"{first['msg'].removeprefix('Value error, ')}{told}") from None
    if settings.in_cloud and settings.store == "sqlite":
        raise SettingsInvalid(
            _VARIABLES["store"],
            f"{' or '.join(get_args(StoreName))}: sqlite cannot be used on Cloud Run, which forgets its disk with the "
            "instance; set it to firestore",
        )
    return settings


def environment_without_file() -> dict[str, str]:
    """This process's environment less what its ``.env`` file set: for a process that is to read the file itself."""
    from_file = _load_env_file(Path.cwd())
    return {name: value for name, value in os.environ.items() if name not in from_file}


def function_target() -> str | None:
    """The function that this process serves; functions-framework says so before it imports ``main.py``."""
    return os.environ.get("FUNCTION_TARGET") or None


def service_revision() -> str | None:
    """The revision of the Cloud Run service that this process is an instance of; None elsewhere."""
    return os.environ.get("K_REVISION") or None


def load_config(config_type: type[ConfigT], workflow_id: str, *, environ: Mapping[str, str] | None = None) -> ConfigT:
    """A workflow's typed configuration, from the variables ``<WORKFLOW>_<FIELD>``.

    Values are text, read by the field's type as pydantic reads text; a structured field is declared as
    ``pydantic.Json[...]``. Empty variables count as unset.

    Raises:
        ConfigInvalid: naming every field that is missing or wrong, and never a value: it may be a secret.
    """
    variables = _process_environment() if environ is None else environ
    names = config_variables(config_type, workflow_id)
    values = {field: variables[name] for field, name in names.items() if variables.get(name)}
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_input=False):
            field = str(next(iter(fault["loc"]), "Config"))
            faults.append((field, names.get(field, "its variables"), fault["msg"]))
        raise ConfigInvalid(workflow_id, faults) from None


def config_variables(config_type: type[BaseModel], workflow_id: str) -> dict[str, str]:
    """The name of the environment variable of each field of a workflow's ``Config``."""
    return {field: f"{workflow_id}_{field}".upper() for field in config_type.model_fields}


def _process_environment() -> Mapping[str, str]:
    if "K_SERVICE" not in os.environ:
        _load_env_file(Path.cwd())
    return os.environ


@cache
def _load_env_file(folder: Path) -> frozenset[str]:
    """Set the variables of the file that are not set; gives their names."""
    # Once: a workflow's configuration is asked for at each of its runs. In the cloud not even the import is needed.
    from dotenv import load_dotenv

    before = set(os.environ)
    load_dotenv(folder / ".env")
    return frozenset(os.environ.keys() - before)
