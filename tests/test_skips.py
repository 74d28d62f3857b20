"""What a skipped test is in CI, and elsewhere."""

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def skipping(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("""
        import pytest

        @pytest.fixture
        def emulator():
            pytest.skip("there is no emulator")

        def test_needs_it(emulator):
            pass

        def test_skips_itself():
            pytest.skip("there is no browser")

        def test_has_no_package():
            pytest.skip("terraform is not installed")

        @pytest.mark.xfail
        def test_is_known_to_fail():
            raise ValueError
    """)


def test_in_ci_it_fails_with_its_reason_but_for_what_has_no_package(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")

    result = pytester.runpytest_inprocess("-p", "tests.skips")

    result.assert_outcomes(errors=1, failed=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["*CI is set: there is no emulator", "*CI is set: there is no browser"])


def test_elsewhere_it_is_skipped(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    result = pytester.runpytest_inprocess("-p", "tests.skips")

    result.assert_outcomes(skipped=3, xfailed=1)
