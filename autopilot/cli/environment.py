"""The environment of the functions that the command serves."""

import os


def direct_to_this_machine() -> dict[str, str | None]:
    """A workflow that calls its own function must not do so through the proxy of the world outside."""
    spared = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    value = ",".join(filter(None, [spared, "127.0.0.1"]))
    return {"NO_PROXY": value, "no_proxy": value}
