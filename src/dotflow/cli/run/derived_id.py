"""The id of a workflow without one, derived from its dotted paths: the same in every run."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

MAX_LENGTH: Final = 100  # characters; every line of the log has the id


def derived_id(steps: Sequence[str], workflow: str | None) -> str:
    """Returns the id for dotted paths; `jobs.load` and `jobs:load` have the same one.

    Args:
        steps: The paths of the steps, in order.
        workflow: The path of a factory, if there are no steps.
    """
    if workflow is not None:
        module, _, name = workflow.replace(":", ".").rpartition(".")
        return _shorten(f"{module}:{name}")
    return _shorten("+".join(path.replace(":", ".") for path in steps))


def _shorten(text: str) -> str:
    """Cuts a long text and appends a digest of all of it."""
    if len(text) <= MAX_LENGTH:
        return text
    digest = f"~{sha256(text.encode()).hexdigest()[:16]}"
    return text[: MAX_LENGTH - len(digest)] + digest
