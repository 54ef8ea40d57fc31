"""Leading the handlers of logging from one stream to another."""

import sys
from collections.abc import Iterator
from typing import Any


def lead_handlers(before: Any, after: Any) -> None:
    """Makes the handlers that write to *before* write to *after*. Does not import logging."""
    logging = sys.modules.get("logging")
    if logging is None:
        return
    for handler in set(_handlers(logging)):
        if vars(handler).get("stream") is before:
            try:
                handler.setStream(after)
            except Exception:  # the user's class; or its stream can't be flushed, and setStream stops there
                handler.stream = after


def _handlers(logging: Any) -> Iterator[Any]:
    loggers = (logging.root, *logging.root.manager.loggerDict.values())
    for logger in loggers:
        yield from getattr(logger, "handlers", ())  # a placeholder has none
    yield from (handler for handler in (logging.lastResort,) if handler is not None)
