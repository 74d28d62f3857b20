import pytest

from autopilot.cli.addresses import checked_url, is_googles, is_of_this_machine


@pytest.mark.parametrize("typed", ("https://api.example", "https://api.example/", "https://api.example/api/v1/"))
def test_an_address_is_as_good_with_the_path_of_the_api(typed: str) -> None:
    assert checked_url(typed) == "https://api.example"


def test_an_address_tells_whose_it_is() -> None:
    assert is_googles("https://api-abc.a.run.app/x")
    assert not is_googles("https://run.app.example")
    assert is_of_this_machine("http://[::1]:8080")
    assert not is_of_this_machine("https://localhost.example")
