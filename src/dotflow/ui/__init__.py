"""The pages about the runs of a history: `dotflow ui`, and `app` to mount them in an application."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow.ui.application import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dotflow.ui.application import app

    return app


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
