"""The workflows of the paths that `dotflow serve` and `dotflow submit` take."""

from collections.abc import Mapping, Sequence
from typing import Any

from dotflow.cli.run.derived_id import derived_id
from dotflow.cli.run.load import Loaded, RunRequest, load
from dotflow.engine.submission import FACTORY
from dotflow.errors import MissingParam, NotServable


def load_workflow(path: str, storage: Mapping[str, Any], param: Sequence[str] = ()) -> Loaded:
    """Returns a workflow, with the id that `dotflow start` derives if it has none, and the parameters of *param*.

    Args:
        path: The workflow, or a function that returns it.
        storage: The options of the storage.
        param: The values of --param.

    Raises:
        NotServable: The function needs arguments.
        UsageError, DotflowError: As `load`.
    """
    try:
        loaded = load(RunRequest.of_definition({**storage, "workflow": path, "param": param}))
    except MissingParam as error:
        raise NotServable(f"{path} can't be queued or served", FACTORY) from error
    if not loaded.workflow.is_named:
        loaded.workflow.set_id(derived_id((), path))
    return loaded
