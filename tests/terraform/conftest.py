import fcntl
from pathlib import Path
from typing import Any

import pytest

from tests.terraform.configuration import BUNDLE, Configuration, Missing


@pytest.fixture(scope="session")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    try:
        configuration = Configuration(tmp_path_factory.mktemp("terraform"))
        # The first use ever of the stand-in sets it up, which two processes must not do at once.
        with (tmp_path_factory.getbasetemp().parent / "terraform.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            configuration.validate()
    except Missing as missing:
        pytest.skip(str(missing))
    return configuration


@pytest.fixture(scope="session")
def test_bundle_plan(configuration: Configuration) -> dict[str, Any]:
    """The plan of the bundle that is made for tests, with everything that can be chosen."""
    return configuration.plan(f"-var-file={BUNDLE}", f"-var-file={Path(__file__).parent / 'chosen.tfvars'}")


@pytest.fixture(scope="session")
def own_plan(configuration: Configuration) -> dict[str, Any]:
    """The plan of this repository's own bundle."""
    return configuration.plan()
