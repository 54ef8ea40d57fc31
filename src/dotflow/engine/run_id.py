"""The id of a run that has parameters: `nightly@day=2026-11-25`."""

import enum
import json
from abc import ABC
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dotflow.core.masks import NO_MASKS, Masks, digest_of_secret
from dotflow.core.secret import NO_SECRETS, SecretRef
from dotflow.errors import InvalidArgument, ValueNotStorable
from dotflow.graph.params import NO_PARAMS, Params

if TYPE_CHECKING:
    from dotflow.graph.builder import TaskBuilder

MAX_LENGTH: Final = 80  # characters of the parameters in an id; a digest replaces longer ones
#: Characters of a text that is written as JSON.
RESERVED: Final = frozenset(',="@/\\')


def run_id_of(workflow_id: str, values: Params, secrets: Collection[str] = (), masks: Masks = NO_MASKS) -> str:
    """Returns the id of a run with these parameters: `nightly@day=2026-11-25,limit=100`.

    A digest stands in place of a secret. Secrets without a value name no run.

    Args:
        workflow_id: The id of the workflow.
        values: The values of the parameters, by name.
        secrets: The parameters that are secrets.
        masks: The secrets of the run.

    Raises InvalidArgument for a value that can't name a run.
    """
    texts = {}
    for name in sorted(values):
        value = values[name]
        if name in secrets and (not isinstance(value, str) or not value):
            continue
        text = _text(name, value)
        if name in secrets or masks.mask(text) != text or (isinstance(value, str) and masks.mask(value) != value):
            text = digest_of_secret(text, f"{workflow_id}@{name}")
        texts[name] = text
    workflow_id = masks.mask_id(workflow_id)
    suffix = ",".join(f"{name}={text}" for name, text in texts.items())
    if len(suffix) > MAX_LENGTH:
        suffix = _digest(suffix)
    return f"{workflow_id}@{suffix}" if suffix else workflow_id


def _text(name: str, value: Any) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, date | Path):
        value = value.isoformat() if isinstance(value, date) else str(value)
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value)
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError):
        pass
    try:
        return _digest(value)
    except ValueNotStorable as error:
        accepted = "plain data, such as text, numbers or dates, since it names the run"
        raise InvalidArgument(f"params[{name!r}]", value, accepted) from error


def _is_plain(text: str) -> bool:
    """Returns whether a text stands in an id unquoted: '5' would read like the number 5."""
    if not text or not text.isprintable() or RESERVED & set(text):
        return False
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _digest(value: Any) -> str:
    from dotflow.codec.canonical import digest  # here, since most runs never need it

    return digest(value)


class RunIds(ABC):
    """The part of a workflow that sets what names its runs."""

    workflow_id: str
    is_named: bool
    task: "TaskBuilder"
    _built_with: Params = NO_PARAMS
    _built_with_secrets: Mapping[str, SecretRef] = NO_SECRETS

    def set_id(self, workflow_id: str) -> None:
        """Sets the id, as DotFlow(workflow_id=...) does. Existing runs keep theirs."""
        self.workflow_id, self.is_named = workflow_id, True
        self.task.set_workflow_id(workflow_id)

    def set_built_with(self, params: Mapping[str, Any], secrets: Mapping[str, SecretRef] = NO_SECRETS) -> None:
        """Sets the arguments of the function that made it: they name its runs as the parameters of `start` do.

        *secrets* are those parameters of the function that are secrets.
        """
        self._built_with, self._built_with_secrets = params, secrets
