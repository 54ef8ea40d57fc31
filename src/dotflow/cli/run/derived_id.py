"""The id of a workflow that was given none: made of what was to be run, so it is the same in every run."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

MAX_LENGTH: Final = 100  # characters; every line of the log carries the id


def derived_id(steps: Sequence[str], workflow: str | None) -> str:
    """Makes the id of the dotted paths. `jobs.load` and `jobs:load` make the same one.

    Args:
        steps: The paths of the steps, in the order in which they run.
        workflow: The path of a factory, where there are no steps.
    """
    if workflow is not None:
        module, _, name = workflow.replace(":", ".").rpartition(".")
        return _shorten(f"{module}:{name}")
    return _shorten("+".join(path.replace(":", ".") for path in steps))


def _shorten(text: str) -> str:
    """Keeps a text that is short; a long one ends with a digest of all of it."""
    if len(text) <= MAX_LENGTH:
        return text
    digest = f"~{sha256(text.encode()).hexdigest()[:16]}"
    return text[: MAX_LENGTH - len(digest)] + digest
