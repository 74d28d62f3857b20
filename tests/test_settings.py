import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, Json, SecretStr

from autopilot.errors import ConfigInvalid, SettingsInvalid
from autopilot.settings import Settings, config_variables, function_target, load_config, load_settings


def test_nothing_set_is_sqlite_in_the_working_directory() -> None:
    settings = load_settings({})

    assert settings == Settings()
    assert (settings.store, settings.sqlite_path) == ("sqlite", Path(".autopilot/autopilot.db"))
    assert (settings.firestore_database, settings.environment, settings.in_cloud) == ("(default)", "local", False)


def test_every_variable_is_read() -> None:
    settings = load_settings(
        {
            "AUTOPILOT_STORE": "firestore",
            "AUTOPILOT_SQLITE_PATH": "/data/runs.db",
            "AUTOPILOT_FIRESTORE_DATABASE": "runs",
            "AUTOPILOT_ENVIRONMENT": "production",
            "AUTOPILOT_LOG_FILE": "/data/log.jsonl",
            "GOOGLE_CLOUD_PROJECT": "acme",
            "FIRESTORE_EMULATOR_HOST": "127.0.0.1:8080",
            "K_SERVICE": "digest",
            "K_REVISION": "digest-001",
            "CLOUD_RUN_TIMEOUT_SECONDS": "540",
            "AUTOPILOT_FUNCTION_URLS": '{"digest": "https://digest.example/"}',
            "AUTOPILOT_API_KEY": "correct horse battery",
            "AUTOPILOT_API_CORS_ORIGINS": "https://a.example, https://b.example",
            "AUTOPILOT_ALLOWED_HOSTS": "Runs.example, other",
        }
    )

    assert settings.model_dump() == {
        "store": "firestore",
        "sqlite_path": Path("/data/runs.db"),
        "firestore_database": "runs",
        "environment": "production",
        "log_file": Path("/data/log.jsonl"),
        "project": "acme",
        "firestore_emulator_host": "127.0.0.1:8080",
        "service": "digest",
        "revision": "digest-001",
        "request_timeout_seconds": 540.0,
        "function_urls": {"digest": "https://digest.example"},
        "api_key": SecretStr("correct horse battery"),
        "api_cors_origins": ("https://a.example", "https://b.example"),
        "allowed_hosts": ("runs.example", "other"),
    }


def test_a_key_that_is_too_short_is_refused_and_not_shown() -> None:
    with pytest.raises(
        SettingsInvalid, match="AUTOPILOT_API_KEY: a key needs at least 16 characters, and this one has 9"
    ) as refused:
        load_settings({"AUTOPILOT_API_KEY": "swordfish"})

    assert "swordfish" not in str(refused.value)


@pytest.mark.parametrize("urls", ("{", "[]", '{"digest": "digest.example"}', '{"digest": "ftp://digest.example"}'))
def test_addresses_of_functions_that_are_not_web_addresses_are_refused(urls: str) -> None:
    with pytest.raises(SettingsInvalid, match="AUTOPILOT_FUNCTION_URLS"):
        load_settings({"AUTOPILOT_FUNCTION_URLS": urls})


def test_an_empty_variable_is_unset() -> None:
    assert load_settings({"AUTOPILOT_STORE": "", "K_SERVICE": "", "CLOUD_RUN_TIMEOUT_SECONDS": ""}) == Settings()


def test_a_timeout_of_zero_is_no_timeout() -> None:
    assert load_settings({"CLOUD_RUN_TIMEOUT_SECONDS": "0"}).request_timeout_seconds is None


def test_a_variable_that_is_named_like_a_field_is_somebody_elses() -> None:
    assert load_settings({"project": "acme", "service": "digest", "STORE": "firestore"}) == Settings()


def test_the_readme_lists_every_variable_that_is_set_by_a_person() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", (Path(__file__).parents[1] / "README.md").read_text(), re.MULTILINE)
    set_by_the_platform = ["K_SERVICE", "K_REVISION", "CLOUD_RUN_TIMEOUT_SECONDS"]

    variables = [field.validation_alias for field in Settings.model_fields.values()]
    assert sorted([*listed, *set_by_the_platform]) == sorted(map(str, variables))


@pytest.mark.parametrize(
    ("variables", "message"),
    (
        ({"AUTOPILOT_STORE": "postgres"}, "AUTOPILOT_STORE: Input should be 'sqlite' or 'firestore', not 'postgres'"),
        ({"CLOUD_RUN_TIMEOUT_SECONDS": "soon"}, "CLOUD_RUN_TIMEOUT_SECONDS: .* not 'soon'"),
        ({"CLOUD_RUN_TIMEOUT_SECONDS": "-1"}, "CLOUD_RUN_TIMEOUT_SECONDS: Input should be greater than 0, not '-1'"),
        ({"K_SERVICE": "digest"}, "AUTOPILOT_STORE: .*sqlite cannot be used on Cloud Run"),
    ),
)
def test_the_error_names_the_variable_that_cannot_work(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        load_settings(variables)


def test_a_dotenv_file_is_read_and_what_is_set_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("AUTOPILOT_ENVIRONMENT=from-file\nAUTOPILOT_SQLITE_PATH=from-file.db\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOPILOT_ENVIRONMENT", "set")
    monkeypatch.setenv("AUTOPILOT_SQLITE_PATH", "restored after the test")
    monkeypatch.delenv("AUTOPILOT_SQLITE_PATH")

    settings = load_settings()

    assert (settings.environment, settings.sqlite_path) == ("set", Path("from-file.db"))


def test_a_dotenv_file_is_not_read_in_the_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("AUTOPILOT_ENVIRONMENT=from-file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K_SERVICE", "digest")
    monkeypatch.setenv("AUTOPILOT_STORE", "firestore")

    assert load_settings().environment == "local"


def test_the_function_being_served_is_the_frameworks_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCTION_TARGET", "digest")
    assert function_target() == "digest"

    monkeypatch.setenv("FUNCTION_TARGET", "")
    assert function_target() is None


class DigestConfig(BaseModel):
    webhook: SecretStr
    limit: int = 5
    feeds: Json[list[str]] = []


class TestConfig:
    def test_fields_are_read_from_variables_of_the_workflow(self) -> None:
        config = load_config(
            DigestConfig,
            "digest",
            environ={"DIGEST_WEBHOOK": "https://w", "DIGEST_LIMIT": "7", "DIGEST_FEEDS": '["a"]'},
        )

        assert (config.webhook.get_secret_value(), config.limit, config.feeds) == ("https://w", 7, ["a"])
        assert config_variables(DigestConfig, "digest")["webhook"] == "DIGEST_WEBHOOK"

    def test_every_error_names_its_field_and_variable_and_shows_no_value(self) -> None:
        with pytest.raises(ConfigInvalid) as caught:
            load_config(DigestConfig, "digest", environ={"DIGEST_LIMIT": "s3cret", "DIGEST_WEBHOOK": ""})

        assert [(field, variable) for field, variable, _ in caught.value.fields] == [
            ("webhook", "DIGEST_WEBHOOK"),
            ("limit", "DIGEST_LIMIT"),
        ]
        assert str(caught.value).startswith(
            "configuration of workflow digest: webhook: Field required (set DIGEST_WEBHOOK)"
        )
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hosts", ("runs.example:8080", "https://runs.example", "*", "runs.example/", "[::1]"))
def test_an_allowed_host_is_a_name(hosts: str) -> None:
    with pytest.raises(SettingsInvalid, match="AUTOPILOT_ALLOWED_HOSTS: each host must be a name without a port"):
        load_settings({"AUTOPILOT_ALLOWED_HOSTS": hosts})


@pytest.mark.parametrize(
    "url",
    (
        "https://user:secret@digest.example",
        "https://digest.example\\@evil.example",
        "https://",
        "https://:80",
        "https://a b",
    ),
)
def test_an_address_of_a_function_that_parsers_may_read_differently_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="AUTOPILOT_FUNCTION_URLS: each address must look like"):
        load_settings({"AUTOPILOT_FUNCTION_URLS": json.dumps({"digest": url})})
