"""Adding a function to the text of main.py."""

import pytest

from autopilot.cli.main_module import MainModuleUnreadable, names_in, with_function

IMPORT = "from autopilot.function.entry_point import entry_point\n"


def line(name: str, maker: str = "entry_point") -> str:
    return f'{name} = {maker}("functions.{name}:X")\n'


def added(text: str, name: str = "m") -> str:
    return with_function(text, name, f"functions.{name}:X")


@pytest.mark.parametrize(
    ("there", "then"),
    (
        ("", line("m")),
        (line("a"), line("a") + line("m")),
        (line("z"), line("m") + line("z")),
        (line("a") + line("z"), line("a") + line("m") + line("z")),
        (line("a") + "# of z\n" + line("z"), line("a") + line("m") + "# of z\n" + line("z")),
        ("# of z\n" + line("z"), line("m") + "# of z\n" + line("z")),
        (line("z") + line("a"), line("m") + line("z") + line("a")),
    ),
)
def test_a_line_goes_where_its_name_belongs(there: str, then: str) -> None:
    assert added(IMPORT + "\n" + there) == (IMPORT + "\n" + then if there else IMPORT + "\n\n" + then)


def test_what_is_there_keeps_its_form() -> None:
    odd = "x   =  1 ; y=2\n\n\na = entry_point(\n  'functions.a:A' ,name = 'a'\n)  # mine\n\ndef  f( ): pass"

    assert added(IMPORT + odd) == IMPORT + odd.replace("# mine\n", "# mine\n" + line("m"))


def test_line_ends_stay_those_of_the_file() -> None:
    text = (IMPORT + "\n" + line("a")).replace("\n", "\r\n")

    assert added(text) == text + line("m").replace("\n", "\r\n")


def test_a_last_line_without_an_end_gets_one() -> None:
    assert added(IMPORT + line("a").rstrip()) == IMPORT + line("a") + line("m")


def test_a_form_feed_in_a_string_is_no_line() -> None:
    text = IMPORT + "s = 'a\x0cb\x1cc'\n" + line("a")

    assert added(text) == text + line("m")


def test_another_name_of_entry_point_is_used() -> None:
    text = "from autopilot.function.entry_point import entry_point as function\n" + line("a", "function")

    assert added(text) == text + line("m", "function")


@pytest.mark.parametrize(
    ("text", "then"),
    (
        ("", IMPORT + "\n" + line("m")),
        ('"""Mine."""\n', '"""Mine."""\n\n' + IMPORT + "\n" + line("m")),
        ("import os\n\nx = 1\n", "import os\n" + IMPORT + "\nx = 1\n\n" + line("m")),
        ("x = 1\n", IMPORT + "x = 1\n\n" + line("m")),
    ),
)
def test_the_import_comes_with_the_first_line(text: str, then: str) -> None:
    assert added(text) == then


def test_every_name_of_the_module_is_known() -> None:
    text = (
        "import os.path, sys as system\nfrom a import b\nx, y = 1, 2\nz: int = 3\ndef f(): inner = 1\nclass C: pass\n"
    )

    assert names_in(text) == {"os", "system", "b", "x", "y", "z", "f", "C"}


@pytest.mark.parametrize("text", ("def (", "\0"))
def test_text_that_is_not_python_says_so(text: str) -> None:
    with pytest.raises(MainModuleUnreadable):
        names_in(text)


API = "from autopilot.function.entry_point import api_entry_point, entry_point\n\n"


@pytest.mark.parametrize(
    ("there", "then"),
    (
        ("(a, z)", "(a, m, z)"),
        ("(a)", "(a, m)"),
        ("(z, )", "(m, z, )"),
        ("(\n    a,\n    z,  # last\n)", "(\n    a,\n    m, z,  # last\n)"),
        ("(*known)", "(*known, m)"),
    ),
)
def test_the_api_is_given_the_new_function_too(there: str, then: str) -> None:
    text = API + line("a") + line("z") + f'\nü = "ü"; x = 1\napi = api_entry_point{there}\n'

    expected = API + line("a") + line("m") + line("z") + f'\nü = "ü"; x = 1\napi = api_entry_point{then}\n'
    assert added(text) == expected


@pytest.mark.parametrize(("there", "then"), (("()", "(m)"), ('(name="api")', '(m, name="api")')))
def test_the_first_function_stands_above_the_api(there: str, then: str) -> None:
    assert added(f"{API}api = api_entry_point{there}\n") == f"{API}{line('m')}\napi = api_entry_point{then}\n"
