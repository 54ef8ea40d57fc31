"""How people name a run in place of its id: the last one, the one before, the last one that failed; of a workflow."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from dotflow.abc.archive import FAILED, LAST, NAMES, PREVIOUS
from dotflow.core.text import shorten
from dotflow.errors import close_match
from dotflow.records.record import RunSummary
from dotflow.report.by_param import param_texts
from dotflow.report.next_steps import BEFORE_PARAMS, params_in

MIN_BEGINNING: Final = 4  # characters of a run's id
MAX_LISTED: Final = 3  # ids in an error
MAX_NAMES: Final = 5  # parameters in an error


class RunName(NamedTuple):
    """What a text names if it is no id.

    Attributes:
        word: `last`, `previous` or `failed`.
        workflow: The id or the name of the workflow; "" for any.
        params: The values of its run parameters, as texts.
    """

    word: str
    workflow: str = ""
    params: Mapping[str, str] = {}

    @property
    def prefix(self) -> str:
        """What stands before the workflow: "failed:"; "" for its last run."""
        return "" if self.is_last else f"{self.word}:"

    @property
    def is_last(self) -> bool:
        """Whether it is the last run."""
        return self.word == LAST

    @property
    def is_previous(self) -> bool:
        """Whether it is the one before."""
        return self.word == PREVIOUS

    @property
    def is_failed(self) -> bool:
        """Whether it is the last one that failed."""
        return self.word == FAILED

    def has_params_of(self, run: RunSummary) -> bool:
        """Returns whether a run has these values among its parameters."""
        return not self.params or self.params.items() <= param_texts(run).items()


def run_names(text: str) -> list[RunName]:
    """Returns what a text may name, in the order in which it is looked for.

    The id of a workflow may have an @ or a colon, too.
    """
    if text in NAMES:
        return [RunName(text)]
    word, _, workflow = text.partition(":")
    if word not in NAMES or not workflow:
        word, workflow = LAST, text
    names = [RunName(word, workflow)]
    of_params = BEFORE_PARAMS.split(workflow, maxsplit=1)[0]
    if of_params and (params := params_in(workflow)):
        names.insert(0, RunName(word, of_params, params))
    return names


def why_several(text: str, ids: Sequence[str], *, is_name: bool) -> str:
    """Returns why a text stands for no run that begins several *ids*; it may be the name of a workflow, too."""
    listed = ", ".join(ids[:MAX_LISTED]) + (", and more" if len(ids) > MAX_LISTED else "")
    more = f", or `{LAST}:{text}` for the last run of the workflow" if is_name else ""
    return f"several ids begin with it: {listed}. Pass more characters{more}"


def why_no_run(word: str, where: str) -> str:
    """Returns why a history has no run of one of the three words."""
    return {
        LAST: f"{where} has only runs that steps have started, or that wait in the queue. Pass an id",
        PREVIOUS: f"{where} has no run that began before the last one",
        FAILED: f"no run in {where} has failed",
    }[word]


def why_unknown(name: RunName, where: str, workflows: Sequence[str]) -> str:
    """Returns that a history has no such workflow, with the one that the name resembles most."""
    ends, rest = (f":{name.workflow}", f".{name.workflow}"), name.workflow.partition(":")[2]
    full = next((workflow for workflow in workflows if workflow.endswith(ends)), name.workflow)
    words = [*NAMES, *(f"{word}:{rest}" for word in NAMES if rest in workflows)] if name.is_last else []
    hint = close_match(full, [*workflows, *words], name.prefix)
    ids = "no id begins so"
    if len(name.workflow) < MIN_BEGINNING:
        ids = f"the beginning of an id needs {MIN_BEGINNING} characters"
    what = "no workflow has this name" if name.prefix else f"no workflow has this name, and {ids}"
    return f"in {where} {what}. {hint or '`dotflow runs` lists them'}"


def why_none_of(name: RunName, runs: Iterable[RunSummary]) -> str:
    """Returns why a workflow has no run of this name. *runs* are its last ones."""
    texts = [param_texts(run) for run in runs]
    known = list(dict.fromkeys(param for of_run in texts for param in of_run))
    workflow = f"'{shorten(name.workflow)}'"
    for param, text in name.params.items():
        if param not in known:
            hint = close_match(param, known) or f"Its parameters: {', '.join(known[:MAX_NAMES]) or 'none'}"
            return f"no run of {workflow} has the parameter '{shorten(param)}'. {hint}"
        values = dict.fromkeys(of_run[param] for of_run in texts if param in of_run)
        if text not in values:
            hint = close_match(text, values) or f"The last one has {shorten(next(iter(values)))}"
            return f"no run of {workflow} has {param}={shorten(text)}. {hint}"
    params = " with these parameters" if name.params else ""
    if name.is_failed:
        return f"no run of {workflow}{params} has failed"
    return f"{workflow} has no {'earlier run' if name.is_previous else 'run'}{params}"
