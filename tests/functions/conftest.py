import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from autopilot.testing import ManualClock
from tests.fakes import InMemoryRunLog
from tests.functions.network import LocalNetwork
from tests.functions.web_server import WebServer, running_server


@pytest.fixture
def run_log() -> InMemoryRunLog:
    return InMemoryRunLog()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 3, 1, 12, tzinfo=UTC))


@pytest.fixture
def network() -> LocalNetwork:
    return LocalNetwork()


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    async with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "one.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(autouse=True)
def trusted(one_certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust one authority, which nobody has, and not all of the machine's, which take 16 ms a test to read."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusted_authority(
    trusted: None, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> trustme.CA:
    """An authority that this process trusts, by the variable that OpenSSL has for it."""
    bundle = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    return authority


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
