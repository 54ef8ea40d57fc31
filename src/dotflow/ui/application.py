"""The app: the page with its style and its script, and the JSON that it draws."""

import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Final

from dotflow.abc.archive import Archive
from dotflow.errors import InvalidArgument
from dotflow.providers.optional import require_extra
from dotflow.report.page import read_part
from dotflow.ui.security import ASGIApp, Guard, Scope

#: How long a browser keeps the style and the script, whose addresses have their digests. Nothing in them is of a run.
KEPT: Final = "private, max-age=31536000, immutable"
MEDIA_TYPES: Final = {"page.css": "text/css", "page.js": "text/javascript"}
NO_SCRIPT: Final = "<noscript>This page needs JavaScript. That of <code>dotflow report</code> does not.</noscript>"

#: The paths of the views, and the way from there to the root, which is not known where the app is mounted.
VIEWS: Final = {"/": "", "/runs/{run}": "../", "/workflow": "", "/diff": ""}


#: Returns the name of who has sent a request, if they may give orders to runs; else None.
Write = Callable[[Scope], str | None]


def app(history: Archive, write: Write | None = None) -> ASGIApp:
    """Returns the ASGI app that shows the runs of a history. Without *write* it only reads.

    `dotflow ui` serves it with a token. Mounted in an application, it has none, so mount it behind a login:
    everyone who reaches it can read all runs.

    Args:
        history: The history, such as `HistorySQLite()`. Its file may not be there yet.
        write: Who may cancel, resume, approve and so on: called in a thread with the scope of each such request, it
            returns the name of the user, which is kept with the order, or None for one who may only read.

    Raises:
        InvalidArgument: The history can't be read, or *write* is no function with one argument.
        NotServable: The history has no queue, which *write* needs.
        MissingExtra: Starlette is not installed.
    """
    if write is not None and (not callable(write) or inspect.iscoroutinefunction(write)):
        raise InvalidArgument("write", write, "a function of a scope that returns a name or None, and is not async")
    if not isinstance(history, Archive):
        raise InvalidArgument("history", history, "a history that can be read, such as HistorySQLite()")
    path = getattr(history, "path", None)
    return Guard(make_app(history, None if path is None else str(path), write), takes_orders=write is not None)


def make_app(history: Archive, option: str | None, write: Write | None = None) -> ASGIApp:
    """Returns the app without its guards; *option* is the value of --history in the commands on the page."""
    require_extra("starlette", "dotflow.ui", "ui")
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from dotflow.ui.actions import Actions
    from dotflow.ui.api import Api

    def respond(request: Request, *, text: str, media_type: str, version: str = "") -> Response:
        is_kept = bool(version) and request.url.query == version
        return Response(text, headers={"cache-control": KEPT} if is_kept else None, media_type=media_type)

    routes = []
    page = read_part("page.html").replace("</body>", f"{NO_SCRIPT}</body>")
    for name, media_type in MEDIA_TYPES.items():
        text = read_part(name)
        version = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        page = page.replace(f"/{name}", f"/{name}?{version}")
        part = functools.partial(respond, text=text, media_type=media_type, version=version)
        routes.append(Route(f"/{name}", part))
    for path, root in VIEWS.items():
        text = page.replace('"/page.', f'"{root}page.')
        routes.append(Route(path, functools.partial(respond, text=text, media_type="text/html")))
    actions = None if write is None else Actions(history, write)
    api = Api(history, option, actions)
    more = () if actions is None else actions.routes()
    starlette = Starlette(routes=[*routes, *api.routes(), *more], exception_handlers=api.handlers())
    starlette.router.redirect_slashes = False  # to an address with the Host header of the request, which may be any
    return starlette
