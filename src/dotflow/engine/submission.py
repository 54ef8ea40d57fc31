"""What a submission needs: the queue of a history, the moment from which a run is due, and declared parameters."""

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from dotflow import clock
from dotflow.abc.history import HISTORY_VARIABLE, History
from dotflow.abc.history import NO_HISTORY as OFF
from dotflow.abc.operations import LAST_MOMENT, Operations, Submission
from dotflow.codec.json import decode, encode, is_plain_data
from dotflow.core.durations import MAX_SECONDS, TEXTS, Duration, as_seconds, to_seconds
from dotflow.core.masks import Masks, environment_masks
from dotflow.core.secret import SecretRef
from dotflow.core.task import Task
from dotflow.core.text import is_utf8, shorten
from dotflow.errors import (
    CheckpointUnreadable,
    InvalidArgument,
    MissingParam,
    NotServable,
    UnknownParam,
    ValueNotStorable,
)
from dotflow.graph.param_types import SCALARS, type_of_run_param
from dotflow.graph.params import GIVEN, SETTINGS, Params, keyed_id, naming, params_in, run_id_of, settings_of

NO_ID: Final = "it has no workflow_id, by which other processes find its runs: DotFlow(workflow_id='nightly')"
NO_HISTORY: Final = (
    "it has no history, which has the queue: Config(history=HistorySQLite('/path/history.db')), or "
    f"{HISTORY_VARIABLE}=/path/history.db"
)
TURNED_OFF: Final = f"{HISTORY_VARIABLE}={OFF} turns its history off, which has the queue. Unset the variable"
FACTORY: Final = "the arguments of the function that made it name its runs. Declare them: DotFlow(params={...})"
NO_NAME: Final = (
    "this process can't make the name of the run, since no server has declared the workflow, or one of its parameters "
    "has a type that only the workflow knows. Use submit() of the workflow, or `dotflow submit -w PATH`"
)
NO_SECRET: Final = "no secret, since the queue keeps it as clear text"
SECRET: Final = "secret"  # in place of the type of a parameter
MAX_NAMES: Final = 2_400  # bytes of the names of a run: an index of Postgres takes 2,704
SECRETS: Final = "=secrets"  # beside the parameters: the names of the secrets that the workflow takes
#: The types that a text becomes, by the names that descriptions have of them.
TYPES: Final = {scalar.__name__: kind for scalar, kind in SCALARS.items()}

#: How a parameter is described to those that can't import its workflow: its type, and its default if it has one. That
#: of a Setting is in a list of its own after that, empty for none.
Description = list[Any]


def queue_of(what: str, history: History | None) -> Operations:
    """Returns the queue of a history. Raises NotServable."""
    if history is None:
        raise NotServable(what, why_no_history())
    queue = history.operations()
    if queue is None:
        raise NotServable(what, f"{type(history).__name__} has no queue")
    return queue


def why_no_history() -> str:
    """Returns why a workflow has no history, and where to name one."""
    return TURNED_OFF if os.environ.get(HISTORY_VARIABLE) == OFF else NO_HISTORY


def due_at(at: object) -> datetime | timedelta | None:
    """Returns the moment of the argument `at`, or its time from now; None for now. Raises InvalidArgument."""
    if at is None:
        return None
    now = clock.now()
    if isinstance(at, datetime):
        seconds = None if at.utcoffset() is None else (at - now).total_seconds()
    else:
        seconds = at.total_seconds() if isinstance(at, timedelta) else to_seconds(at)
    if seconds is None:
        raise InvalidArgument("at", at, f"a datetime with a time zone, or a time from now: seconds, {TEXTS}")
    if now.timestamp() + seconds >= LAST_MOMENT - 1:
        raise InvalidArgument("at", at, "a moment before the year 2255")
    if seconds <= 0:
        return None
    return at if isinstance(at, datetime) else timedelta(seconds=seconds)


def check_submission(key: object, priority: object, masks: Masks) -> None:
    """Raises InvalidArgument for a key that is no text or has a secret, or a priority that is no number."""
    if key is not None:
        if not isinstance(key, str) or not key or not is_utf8(key):
            raise InvalidArgument("key", key, 'a text, such as "click-17"')
        if masks.mask(key) != key:
            raise InvalidArgument("key", "***", NO_SECRET)
    if type(priority) is not int or abs(priority) >= 2**31:
        raise InvalidArgument("priority", priority, "a whole number; higher ones begin first")


def as_newest(
    wanted: Submission,
    *,
    replace: bool,
    debounce: Duration | None,
    within: Duration | None,
    by: Callable[[], str],
    at: object,
    connection: object,
) -> Submission:
    """Returns a submission that replaces the older runs of its name, or is debounced; else the same one.

    Args:
        wanted: The submission.
        replace, debounce, within: As for `DotFlow.submit`.
        by: Returns who cancels the older runs.
        at, connection: What goes with neither.

    Raises:
        InvalidArgument: One of them is wrong, or does not go with the others.
        NotServable: The name of the run is unknown here.
    """
    if not isinstance(replace, bool):
        raise InvalidArgument("replace", replace, "True or False")
    if debounce is None and within is not None:
        raise InvalidArgument("within", within, "it with debounce=: it says when such a run begins at the latest")
    if debounce is None and not replace:
        return wanted
    option = "replace" if debounce is None else "debounce"
    if replace and debounce is not None:
        raise InvalidArgument("debounce", debounce, "either debounce= or replace=, which begins at once")
    if at is not None:
        raise InvalidArgument("at", at, f"no moment with {option}=, which says when the run begins")
    if connection is not None:
        hint = "In an open transaction a submission touches no other run."
        raise InvalidArgument("connection", type(connection).__name__, f"None with {option}=", hint)
    seconds = None if debounce is None else as_seconds("debounce", debounce, above=0)
    latest = MAX_SECONDS if within is None else as_seconds("within", within, above=0)
    if seconds is not None and latest < seconds:
        raise InvalidArgument("within", within, f"at least as long as debounce={debounce!r}")
    if wanted.name is None:
        raise NotServable(f"The workflow {wanted.workflow!r} can't be submitted by its id with {option}=", NO_NAME)
    if seconds is None:
        return wanted._replace(replaced_by=by())
    return wanted._replace(due=timedelta(seconds=seconds), latest=timedelta(seconds=latest))


def check_names(workflow: str, key: str | None, name: str | None) -> None:
    """Raises InvalidArgument where the names by which a database finds a run are too long for its indexes.

    Args:
        workflow: The id of the workflow.
        key: The key of the submission.
        name: The name of the run.
    """
    size = sum(len(text.encode(errors="surrogatepass")) for text in (workflow, key or "", name or ""))
    if size > MAX_NAMES:
        argument, value = ("workflow_id", workflow) if key is None else ("key", key)
        accepted = f"a shorter one: the names of the run have {size:,} bytes, and may have {MAX_NAMES:,}"
        raise InvalidArgument(argument, shorten(value), accepted)


def check_id(workflow_id: object) -> None:
    """Raises InvalidArgument for what is no id of a workflow that a queue keeps."""
    if not isinstance(workflow_id, str) or not workflow_id or not is_utf8(workflow_id):
        raise InvalidArgument("workflow_id", workflow_id, "the id of a workflow, as a text without lone surrogates")


def params_text(
    given: Params,
    defaults: Params,
    masks: Masks,
    secrets: Collection[str],
    key: str | None,
    settings: Collection[str],
) -> str:
    """Returns run parameters for a queue. Equal ones are equal texts.

    Args:
        given: The values of the submission.
        defaults: Those of the others, with which it runs, whatever a server's code declares by then.
        masks: The secrets.
        secrets: The parameters that are secrets, which stay out.
        key: The key of the submission; None for none.
        settings: The parameters that are Settings.

    Raises:
        InvalidArgument: A given value is a secret, or the codec can't keep it.
    """
    for name in given:
        if name in secrets:
            raise refuse_secret(name)
    try:
        text = _text(given)
    except ValueNotStorable as error:
        raise InvalidArgument("params", dict(given), "plain data, such as text, numbers or dates") from error
    if masks.mask(text) != text:
        raise refuse_secret(next((name for name, value in given.items() if masks.mask(repr(value)) != repr(value)), ""))
    kept = {name: value for name, value in defaults.items() if name not in secrets and _may_be_kept(value, masks)}
    return _kept_text(given, kept, key, settings)


def _kept_text(given: Params, defaults: Params, key: str | None, settings: Collection[str]) -> str:
    """Returns the parameters of a run for a queue; with a key also which of them were given, as they are compared."""
    names: dict[str, list[str]] = {}
    if key is not None and defaults.keys() - given.keys():
        names[GIVEN] = sorted(given)
    if key is not None and given.keys() & settings:
        names[SETTINGS] = sorted(given.keys() & settings)
    return _text({**defaults, **given, **names})


def _may_be_kept(value: object, masks: Masks) -> bool:
    """Returns whether a queue may have a default: a server finds the others anew."""
    try:
        text = encode(value)
    except ValueNotStorable:
        return False
    return masks.mask(text) == text


def _text(params: Params) -> str:
    return encode({name: params[name] for name in sorted(params)})


def find_secret(text: str, name: str, masks: Masks) -> InvalidArgument | None:
    """Returns the error for a run in a queue that has a secret, as the process that submitted it did not know.

    Args:
        text: Its parameters as text of the codec.
        name: Its name, or its key.
        masks: The secrets that this process knows.
    """
    if masks.mask(text) != text:
        members = json.loads(text).items()
        return refuse_secret(next((name for name, value in members if _has_secret(json.dumps(value), masks)), ""))
    return InvalidArgument("key", "***", NO_SECRET) if masks.mask(name) != name else None


def _has_secret(text: str, masks: Masks) -> bool:
    return masks.mask(text) != text


def refuse_secret(name: str) -> InvalidArgument:
    """Returns the error for a run parameter that is a secret."""
    hint = "Leave it out: the process that runs it finds secrets in Config(secrets=...) or its environment."
    return InvalidArgument(f"params[{name!r}]", "***", NO_SECRET, hint)


def describe_params(declared: Params, secrets: Mapping[str, SecretRef], tasks: Iterable[Task], masks: Masks) -> str:
    """Returns the names, types and defaults of declared parameters as text of the codec, and the names of secrets."""
    described: dict[str, Description] = {}
    tasks = list(tasks)
    uses = [use.secret for task in tasks if task.links is not None for use in task.links.secrets]
    if names := sorted({masks.mask(secret.name) for secret in (*secrets.values(), *uses)}):
        described[SECRETS] = list(names)
    for name, default in declared.items():
        if name in secrets:
            described[name] = [SECRET, None]
            continue
        kind = type_of_run_param(name, default, tasks)
        found = next((known for known in TYPES if TYPES[known] is kind), "")
        shown: Description = [] if default is ... else [default]
        if shown and not (_is_plain(default) and _may_be_kept(default, masks)):
            found, shown = "", [None]
        described[name] = [found, None, shown] if name in settings_of(declared) else [found, *shown]
    return encode(described)


def _is_plain(value: object) -> bool:
    """Returns whether any process can read a value: its codec has it, and it is of no class of a program."""
    try:
        return is_plain_data(encode(value))
    except ValueNotStorable:
        return False


def defaults_of(description: str | None) -> dict[str, Any]:
    """Returns the defaults of declared parameters that are no secrets; `...` for one without, or which is not known.

    *description* is what `describe_params` has returned; None where the workflow is unknown.
    """
    described = params_in(_described(description) or {})
    known = {name: _default_of(one) for name, one in described.items() if one[0] != SECRET}
    return {name: default[0] if default and described[name][0] else ... for name, default in known.items()}


def _default_of(described: Description) -> list[Any]:
    """Returns the default of a parameter in a list, which is empty for one without."""
    return list(described[2]) if len(described) > 2 else described[1:]


def known_masks(description: str | None) -> Masks:
    """Returns the masks of the secrets that this process knows: those of its environment and of a workflow's names."""
    names = (_described(description) or {}).get(SECRETS, [])
    return environment_masks() | Masks([value for name in names if (value := os.environ.get(name))])


def _described(description: str | None) -> dict[str, Description] | None:
    """Returns what `describe_params` has described; None where an earlier dotflow has kept classes of a program."""
    with contextlib.suppress(CheckpointUnreadable):
        return None if description is None else decode(description)
    return None


def named_by(
    workflow_id: str, description: str | None, given: Mapping[str, Any], key: str | None, masks: Masks
) -> tuple[str | None, str]:
    """Returns the name and the parameters of a run of a workflow that this process can't import.

    Args:
        workflow_id: The workflow.
        description: What `describe_params` has returned; None where the workflow is unknown.
        given: The parameters; a text becomes what the parameter is.
        key: The key, which names the run in place of the parameters; None for none.
        masks: Secrets that the caller knows beside those of the environment.

    Returns:
        The name, None where only the workflow itself can make it; and the parameters as text of the codec.

    Raises:
        UnknownParam, MissingParam, InvalidArgument: As in `submit` of the workflow.
    """
    masks |= known_masks(description)
    for name, value in given.items():
        if not _is_plain(value):
            shown = masks.mask(repr(value)) if masks else value
            raise InvalidArgument(f"params[{name!r}]", shown, "plain data, such as text, numbers or dates")
        if masks.mask(text := encode(value)) != text:
            raise refuse_secret(name)
    described = _described(description)
    described = None if described is None else params_in(described)
    plain = workflow_id if key is None else keyed_id(workflow_id, key)
    if described is None:
        return None if given else plain, _text(given)
    values = dict(given)
    for name, value in given.items():
        if name not in described:
            raise UnknownParam(name, tuple(described))
        kind = described[name][0]
        if kind == SECRET:
            raise refuse_secret(name)
        if kind in TYPES and isinstance(value, str):
            try:
                values[name] = TYPES[kind].convert(value)
            except ValueError:
                raise InvalidArgument(f"params[{name!r}]", value, TYPES[kind].accepted) from None
    missing = [name for name, one in described.items() if not _default_of(one) and name not in values]
    if missing:
        raise MissingParam(tuple(missing))
    defaults = {name: value for name, value in defaults_of(description).items() if value is not ...}
    settings = {name for name, one in described.items() if len(one) > 2}
    if values and any(not kind for kind, *_ in described.values()):
        return None, _kept_text(values, {}, key, settings)
    named = {name: value for name, value in values.items() if name not in settings}
    by_values = run_id_of(workflow_id, naming(defaults, named))
    return by_values if key is None else plain, _kept_text(values, defaults, key, settings)
