"""The page of a run as one HTML file, which fetches nothing.

page.html, page.css and page.js are the same that `dotflow ui` serves. Here, the document stands in the page.
page.js is one script of the modules in page/, in the order of MODULES. Where no script runs, the page shows what the
run was, its tasks as a table, and its errors.
"""

import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from dotflow.atomic_file import Files
from dotflow.core.attempt_id import ID_LENGTH
from dotflow.core.durations import format_duration
from dotflow.records.record import BAD
from dotflow.report.document import to_json
from dotflow.report.text import escape, escape_block, size_text, state_text, took_text

#: What page.html has, and what a report has in its place.
HEAD: Final = '<meta charset="utf-8">'
TITLE: Final = "<title>dotflow</title>"
STYLE: Final = '<link rel="stylesheet" href="/page.css">'
SCRIPT: Final = '<script src="/page.js" defer></script>'

#: The modules of page.js: a module is read after those whose values it needs at once. They share one scope.
MODULES: Final = (
    *("elements", "texts", "states", "outcome", "parts"),
    *("header", "failures", "timeline", "graph", "calls", "tasks", "environment", "run"),
    *("live", "buttons", "output", "attention", "runs", "trends", "workflow", "diff", "start"),
)

DATA_ID: Final = "data"  # of the element with the document

#: Nothing is fetched or sent, and nothing runs but the page's own script and style.
POLICY: Final = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"
)

_IN_JSON: Final = re.compile("[<>&\u2028\u2029]")


def make_page(document: Mapping[str, Any]) -> str:
    """Returns the page of a document."""
    frame, style, script = (read_part(name) for name in ("page.html", "page.css", "page.js"))
    policy = POLICY.format(script=_digest(script), style=_digest(style))
    parts = {
        HEAD: f'{HEAD}\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
        TITLE: f"<title>{escape(title_of(document))}</title>",
        STYLE: f"<style>{style}</style>",
        SCRIPT: f"<noscript>{plain_page(document)}</noscript>\n"
        f'<script type="application/json" id="{DATA_ID}">{_data(document)}</script>\n<script>{script}</script>',
    }
    pattern = "|".join(map(re.escape, parts))
    return re.sub(pattern, lambda match: parts[match[0]], frame)


def write_page(path: str | os.PathLike[str], document: Mapping[str, Any]) -> Path:
    """Writes the page of a document, as a whole or not at all, and returns its path.

    Missing folders are made. What is no regular file, such as /dev/stdout, is written to as it is.

    Raises:
        OSError: The file can't be written, or another user has made it, or a link to it.
    """
    target = Path(path).absolute()
    data = make_page(document).encode()
    if target.exists() and not target.is_file():
        target.write_bytes(data)
    else:
        files = Files()
        files.check_private(str(target), is_named=True)
        target = Path(os.path.realpath(target))  # a link stays one, unless it leads in a circle
        files.write_atomic(str(target.parent), target.name, data, synced=False)
    return Path(path)


@cache
def read_part(name: str) -> str:
    """Returns one of the parts of the page: page.html, page.css or page.js."""
    if name == "page.js":
        return "\n".join(read_part(f"page/{module}.js") for module in MODULES)
    return Path(__file__).parent.joinpath(name).read_text("utf-8")


def _data(document: Mapping[str, Any]) -> str:
    r"""Returns the document as JSON in which nothing is HTML: `<` stands there as \u003c."""
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", to_json(document))


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


MAX_TASKS: Final = 1000  # rows
MAX_ERRORS: Final = 50

HEADINGS: Final = ("Task", "State", "Attempts", "Duration", "CPU", "Memory", "Value")


def title_of(document: Mapping[str, Any]) -> str:
    """Returns the title of the page: `✗ Failed: nightly, run 7f3a9c12`."""
    run = document["run"]
    workflow = f"{run['workflow']}, " if run["workflow"] else ""
    return f"{state_text(run['state'])}: {workflow}run {run['run_id'][:ID_LENGTH]}"


def plain_page(document: Mapping[str, Any]) -> str:
    """Returns the run as HTML without a script."""
    return "\n".join(_lines(document))


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    run, tasks = document["run"], document["tasks"]
    yield f"<h1>{escape(title_of(document))}</h1>"
    took = ""
    if run["duration"] is not None:
        took = f", {took_text(run['duration'], is_end_known=run['is_end_known'])}"
    began = run["began"][:19].replace("T", " ")
    verb = "Began" if run["has_begun"] else "Queued"
    yield f"<p>{verb} {began} UTC{took}. The page shows more where scripts may run.</p>"
    if run["reason"]:
        yield f"<p>{escape(run['reason'])}</p>"
    yield "<table>"
    yield f"<thead><tr>{''.join(f'<th>{heading}</th>' for heading in HEADINGS)}</tr></thead>"
    yield "<tbody>"
    for task in tasks[:MAX_TASKS]:
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(task))}</tr>"
    yield "</tbody>"
    yield "</table>"
    if len(tasks) > MAX_TASKS:
        yield f"<p>and {len(tasks) - MAX_TASKS} more tasks</p>"
    errors = list(_errors(document))
    for name, error in errors[:MAX_ERRORS]:
        yield f"<h2>{escape(name)}</h2>"
        yield f"<pre>{escape_block(error['traceback'] or '{exception}: {message}'.format(**error))}</pre>"
    if len(errors) > MAX_ERRORS:
        yield f"<p>and {len(errors) - MAX_ERRORS} more errors</p>"


def _cells(task: Mapping[str, Any]) -> tuple[str, ...]:
    items = ", ".join(f"{count} {state.lower()}" for state, count in sorted(task["counts"].items()))
    return (
        f"{task['task_id']} {task['name']}",
        state_text(task["state"]),
        str(sum(attempt["attempt"] > 0 for attempt in task["attempts"]) or ""),
        *("" if task[name] is None else format_duration(task[name]) for name in ("duration", "cpu")),
        "" if task["peak"] is None else size_text(task["peak"]),
        items if task["count"] is not None else task["glimpse"],
    )


def _errors(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the last errors of failed tasks and items."""
    for task in document["tasks"]:
        ends = [(task["name"], task["attempts"])]
        for detail in task["details"]:
            given = detail["attempts"][-1]["input"] if detail["attempts"] else ""
            ends.append((f"{detail['name']} {given}".rstrip(), detail["attempts"]))
        for name, attempts in ends:
            if attempts and attempts[-1]["state"] in BAD:
                yield from ((name, error) for error in attempts[-1]["errors"][-1:])
