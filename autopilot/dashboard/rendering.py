"""Rendering of templates, with the values that every page uses."""

import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from autopilot.api.access import CSRF_FIELD, Session
from autopilot.api.context import ApiContext
from autopilot.api.paths import route_path, to_root
from autopilot.core.clock import random_id
from autopilot.dashboard import formatting
from autopilot.text import relative_text, visible
from autopilot.version import VERSION

_FOLDER = Path(__file__).parent


class Renderer:
    """Renders templates to pages. Jinja's autoescape is on."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for name in ("duration", "exact", "clock_time", "count", "size", "plural"):
            self._templates.filters[name] = getattr(formatting, name)
        self._templates.filters |= {"relative": relative_text, "visible": visible}
        self._templates.globals |= {
            "assets": _digest(_FOLDER / "static"),
            "version": VERSION,
            "environment": context.settings.environment,
            "csrf_field": CSRF_FIELD,
        }

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page. A browser without a session gets one with it."""
        access = self._context.access
        known = access.session_of(request)
        session = known or Session(random_id())
        path = route_path(request.scope)
        html = self._templates.get_template(template).render(
            root=to_root(path),
            path=path,
            query=request.url.query,
            now=self._context.clock.now(),
            csrf_token=session.csrf_token,
            can_sign_out=access.needs_sign_in and access.is_signed_in(request),
            **values,
        )
        response = HTMLResponse(html, status)
        if known is None:
            access.begin_session(response, session)
        return response


def redirect(request: Request, path: str) -> RedirectResponse:
    """Redirect to ``path`` with a GET, by an address that is right wherever the application is mounted."""
    return RedirectResponse(to_root(route_path(request.scope)) + path.lstrip("/"), 303)


def local_path(path: str) -> str:
    """``path`` if it is local, else ``/``: no redirect leads to another site."""
    is_ours = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if is_ours else "/"


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
