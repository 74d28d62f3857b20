"""The text of main.py: the functions in it, and the line of one more."""

import pytest

from autopilot.cli.main_module import defines, function_names, with_function

IMPORT = "from autopilot import api_entry_point, entry_point\n\n"
A, M, Z = (f'{name} = entry_point("functions.{name}:X")\n' for name in "amz")
API = "\napi = api_entry_point()\n"


def added(text: str) -> str | None:
    return with_function(text, "m", M.rstrip())


@pytest.mark.parametrize(
    ("before", "after"),
    (
        (IMPORT + A + API, IMPORT + A + M + API),
        (IMPORT + A + Z + API, IMPORT + A + Z + M + API),
        (
            IMPORT + "a = entry_point('x:A', name='a')  # mine\n",
            IMPORT + "a = entry_point('x:A', name='a')  # mine\n" + M,
        ),
        (IMPORT + A + "\n\ndef  f( ): pass", IMPORT + A + M + "\n\ndef  f( ): pass"),
        (IMPORT + "s = 'a\x0cb\x1cc'\n" + A, IMPORT + "s = 'a\x0cb\x1cc'\n" + A + M),
        (IMPORT + A.rstrip(), IMPORT + A + M.rstrip()),
    ),
)
def test_the_line_is_added_below_the_last_one_and_nothing_else_changes(before: str, after: str) -> None:
    assert added(before) == after


def test_line_ends_stay_those_of_the_file() -> None:
    assert added((IMPORT + A + API).replace("\n", "\r\n")) == (IMPORT + A + M + API).replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    (
        "",
        IMPORT + API,
        "from autopilot import entry_point as function\na = function('functions.a:A')\n",
        IMPORT + "a = entry_point(\n    'functions.a:A',\n)\n",
        IMPORT + "a = entry_point(str('functions.a:A'),\n    name='a',\n)\n",
        f'"""For example:\n\n{A}"""\n\n' + IMPORT,
        IMPORT + "if True:\n    a = entry_point('functions.a:A')\n",
    ),
)
def test_where_the_place_is_not_plain_to_see_nothing_is_added(text: str) -> None:
    assert added(text) is None


def test_the_functions_are_those_of_entry_point() -> None:
    assert function_names(IMPORT + Z + "# b = entry_point('b:B')\n" + A + "x = other('c:C')\n" + API) == ["z", "a"]


@pytest.mark.parametrize("name", ("os", "system", "b", "x", "y", "z", "f", "C"))
def test_a_name_of_the_top_level_is_taken(name: str) -> None:
    text = (
        "import os.path, sys as system\nfrom a import b\nx, y = 1, 2\nz: int = 3\ndef f(): inner = 1\nclass C: pass\n"
    )

    assert (defines(text, name), defines(text, "inner"), defines(text, "path")) == (True, False, False)


@pytest.mark.parametrize("text", ("def (", "\0"))
def test_text_that_is_not_python_says_so(text: str) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        defines(text, "x")
