"""Paths that hold wherever the application is mounted, and behind a proxy that takes a prefix away."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """The path within the application, without the prefix under which it is mounted."""
    path: str = scope.get("path", "")
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def to_root(path: str) -> str:
    """The relative address of the application's root, seen from a page at ``path``."""
    return "../" * (path.count("/") - 1) or "./"
