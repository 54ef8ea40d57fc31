"""Words in the parameters of a schedule, such as {yesterday}: each firing fills them from its planned moment."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import click

from dotflow import clock
from dotflow.cli.run.params import parse_params, values_for_workflow
from dotflow.graph.params import Params
from dotflow.workflow import DotFlow

_WORD: Final = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII)


def _hour(planned: datetime, before: timedelta = timedelta(0)) -> str:
    """Returns the beginning of the hour of a moment. Before a DST change, the hour before has the other offset."""
    earlier = (planned.astimezone(UTC) - before).astimezone(planned.tzinfo)
    return earlier.replace(minute=0, second=0, microsecond=0).isoformat()


#: Word -> its text for a planned moment, in the zone of the schedule.
WORDS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "today": lambda planned: planned.date().isoformat(),
    "yesterday": lambda planned: (planned.date() - timedelta(days=1)).isoformat(),
    "planned": datetime.isoformat,
    "hour": _hour,
    "last_hour": lambda planned: _hour(planned, timedelta(hours=1)),
}


def fill(text: str, planned: datetime) -> str:
    """Returns a text with its words filled. Braces around anything but a name stay, as in JSON. Raises UsageError."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in WORDS:
            known = ", ".join(f"{{{name}}}" for name in WORDS)
            raise click.UsageError(f"Can't use {match[0]} in --param: it is no word. Use one of {known}.")
        return WORDS[match[1]](planned)

    return _WORD.sub(word, text)


def filled_now(options: Mapping[str, Any], zone: tzinfo | None) -> dict[str, Any]:
    """Returns the options of a schedule whose words in --param are filled for this moment, as an example."""
    now = clock.now().astimezone(zone)
    return {**options, "param": [fill(text, now) for text in options["param"]]}


def params_of_firings(param: Sequence[str], workflow: DotFlow) -> Callable[[datetime], Params] | None:
    """Returns the function of a planned moment that makes the run parameters; None if --param has no words.

    Raises UsageError for a word in an argument of the function that has made the workflow.
    """
    texts = parse_params(param)
    with_words = {name for name, text in texts.items() if _WORD.search(text)}
    for name in with_words - workflow.params.keys():
        raise click.UsageError(
            f"Can't use --param {name}={texts[name]}: the function that makes the workflow takes '{name}', and is "
            "called once. Declare it: DotFlow(params={...})."
        )
    if not with_words:
        return None
    own = {name: text for name, text in texts.items() if name in workflow.params}

    def at(planned: datetime) -> Params:
        filled = {name: fill(text, planned) for name, text in own.items()}
        return values_for_workflow(workflow.params, filled, (), workflow.task)

    return at
