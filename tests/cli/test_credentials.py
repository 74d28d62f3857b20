import pytest

from autopilot.cli.credentials import checked_url, is_local, needs_identity_token
from autopilot.cli.exits import CommandFailed


@pytest.mark.parametrize("typed", ("https://api.example", "https://api.example/", "https://api.example/api/v1/"))
def test_an_address_is_as_good_with_the_path_of_the_api(typed: str) -> None:
    assert checked_url(typed) == "https://api.example"


def test_an_address_tells_whose_it_is() -> None:
    assert needs_identity_token("https://api-abc.a.run.app/x")
    assert not needs_identity_token("https://run.app.example")
    assert is_local("http://[::1]:8080")
    assert not is_local("https://localhost.example")


@pytest.mark.parametrize(
    "typed",
    (
        "https://api.example@evil.example",
        "https://api.run.app\\@evil.example",
        "https://api.example\nX: y",
        "https://[api.example",
        "https://api.example:port",
        "https://api.example:99999",
        "https:///path",
        "ftp://api.example",
        "api.example",
    ),
)
def test_a_url_that_parsers_may_read_differently_is_refused(typed: str) -> None:
    with pytest.raises(CommandFailed, match="is not a URL such as https://host"):
        checked_url(typed)
