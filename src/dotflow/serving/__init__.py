"""serve: the process that runs what is wanted."""

from dotflow.serving.server import Server, serve

__all__ = ["Server", "serve"]
