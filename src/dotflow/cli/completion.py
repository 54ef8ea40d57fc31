"""What a shell completes: the runs of the history, their tasks and workflows. It imports no workflow, and is silent."""

import contextlib
import os
import re
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, shell_complete, split_arg_string

from dotflow.abc.archive import NAMES, Archive
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.text import GENERATED
from dotflow.report.by_param import param_texts, params_of
from dotflow.report.next_steps import BEFORE_PARAMS

VARIABLE: Final = "_DOTFLOW_COMPLETE"  # set by the scripts of click
SHELLS: Final = ("bash", "zsh", "fish")
SECONDS: Final = 2.0  # a completion that takes longer, of a database that does not answer, ends without any
RECENT: Final = 200  # runs that are completed, and whose parameters are
MAX_IDS: Final = 20  # runs by their ids, where nothing was typed yet


class Bash(BashComplete):
    """Completes what stands before the cursor as a whole: bash breaks words at a colon, an @ and an = too."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' line
    COMPREPLY=()
    for line in $(COMP_WORDS="${COMP_LINE:0:$COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
            %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        case "$line" in
            plain,*) COMPREPLY+=("${line#plain,}") ;;
            file,*) compopt -o default ;;
            dir,*) compopt -o dirnames ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def source(self) -> str:
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        _, incomplete = self.get_completion_args()
        breaks = re.escape("".join({*os.environ.get("COMP_WORDBREAKS", "")} & {*":@="}))
        kept = re.match(f".*[{breaks}]", incomplete, re.S) if breaks else None
        return f"{item.type},{item.value[len(kept[0]) :] if kept else item.value}"


def script(shell: str) -> str:
    """Returns the program by which a shell completes `dotflow`."""
    from click.shell_completion import get_completion_class

    add_completion_class(Bash)
    found = get_completion_class(shell)
    assert found is not None
    text = found(click.Command("dotflow"), {}, "dotflow", VARIABLE).source()
    if shell == "zsh":  # where compinit has not run yet
        first, _, rest = text.partition("\n")
        text = f"{first}\n(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit; }}\n{rest}"
    return text


def complete(command: click.Command) -> int:
    """Prints what a shell has asked for, and nothing where that fails. Returns the exit code."""
    with contextlib.suppress(Exception), Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, _give_up)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
        add_completion_class(Bash)
        return shell_complete(command, {}, "dotflow", VARIABLE, os.environ[VARIABLE])
    return 1


def _give_up(number: int, frame: FrameType | None) -> None:
    os._exit(1)


def _items(texts: Iterable[str], incomplete: str) -> list[CompletionItem[str]]:
    """Returns the texts that begin so and are one word for every shell."""
    found = dict.fromkeys(text for text in texts if text.startswith(incomplete))
    return [CompletionItem(text) for text in found if text.isprintable() and not re.search(r"[\s,'\"\\$`]", text)]


def complete_run(archive: Archive, incomplete: str) -> list[CompletionItem[str]]:
    """Returns words and workflows, with the values of a parameter behind an @, and ids of the last runs."""
    word, colon, rest = incomplete.partition(":")
    prefix = f"{word}:" if colon and word in NAMES else ""
    name = rest if prefix else incomplete
    if "@" in name:
        return _items((prefix + text for text in _with_params(archive, name)), incomplete)
    texts = [prefix + workflow for workflow in archive.workflows()]
    if not prefix:
        recent = archive.runs(limit=RECENT if incomplete else MAX_IDS)
        texts = [*NAMES, *texts, *(f"{word}:" for word in NAMES if incomplete), *(run.run_id for run in recent)]
    items = _items(texts, incomplete)
    return [CompletionItem(item.value[:ID_LENGTH]) if GENERATED.fullmatch(item.value) else item for item in items]


def _with_params(archive: Archive, name: str) -> Iterator[str]:
    """Yields the workflow of a name with each parameter and value that its last runs have."""
    workflow, *_ = BEFORE_PARAMS.split(name, maxsplit=1)
    workflow = workflow.rpartition("@")[0] if workflow == name else workflow
    runs = archive.runs(workflow=workflow, limit=RECENT)
    for param in params_of(runs):
        for text in dict.fromkeys(texts[param] for run in runs if param in (texts := param_texts(run))):
            yield f"{workflow}@{param}={text}"


def complete_step(archive: Archive, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Returns the tasks of the run that the command names, or of the last one."""
    words = [ctx.params.get("run"), *(word for word in ctx.args if not word.startswith("-")), "last"]
    run = next(filter(None, words))  # of an option that lacks its value, click has parsed no argument
    (tasks,) = archive.task_states([archive.summary(run).run_id])
    return _items((task.name for task in tasks), incomplete)


def complete_workflow(archive: Archive, incomplete: str) -> list[CompletionItem[str]]:
    """Returns the workflows of the last runs."""
    return _items(archive.workflows(), incomplete)
