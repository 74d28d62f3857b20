"""Names of deployed functions."""

import re

MAX_FUNCTION_NAME = 30
"""Characters of a workflow's part of its function's name. Cloud Run allows 49; the rest is the environment's."""
_FUNCTION_NAME = re.compile("[a-z]([a-z0-9-]*[a-z0-9])?", re.ASCII)


def function_name_of(workflow: str) -> str:
    """The deployed name of a workflow's function, without its environment: words joined by hyphens.

    Raises:
        ValueError: Cloud Functions would refuse the name.
    """
    name = re.sub("_+", "-", workflow)
    if not _FUNCTION_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid function name: it must end in a letter or digit")
    if len(name) > MAX_FUNCTION_NAME:
        raise ValueError(f"a function name has room for {MAX_FUNCTION_NAME} characters of it, not {len(name)}")
    return name
