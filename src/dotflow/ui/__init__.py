"""The pages about the runs of a history: `dotflow ui`, and `app` to mount them in an application."""

from dotflow.ui.application import app

__all__ = ["app"]
