"""Records of runs for the tests of what shows them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, Final

import pytest

from dotflow.core.files import FileRecord, FileState
from dotflow.core.types.attempt_state import TypeAttemptState
from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import AttemptRecord, ErrorRecord, RunRecord, TaskRecord

#: What a page or a terminal could take for something else than text.
HOSTILE: Final = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "<img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "' onload='alert(1)",
    "</noscript></title></pre></style><b>",
    "&lt;b&gt;&#x27;",
    "\u2028\u2029",
    "\0",
    "\x1b[31mred\x1b]0;title\x07",
    "\ud800",
    "\u202egnp.exe",
    "ä 日本 🎉",
    "javascript:alert(1)",
    "${alert(1)} {{7*7}} `",
    "\\u003c \\",
)

COMPLETED, FAILED, RETRY = TypeAttemptState.COMPLETED, TypeAttemptState.FAILED, TypeAttemptState.RETRY
BEGAN = datetime(2026, 11, 24, 2, tzinfo=UTC)
ERROR = ErrorRecord("ConnectionError", "closed", "Traceback ...\nConnectionError: closed")


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def an_attempt(
    state: TypeAttemptState = COMPLETED, number: int = 1, item: int | None = None, began: float = 1.0
) -> AttemptRecord:
    errors = () if state is COMPLETED else (ERROR,)
    return AttemptRecord(item, number, state, at(began), 0.25, 0.1234567, 61_234_567, 4242, "42", "", errors)


def a_task(
    number: int,
    *attempts: AttemptRecord,
    items: Mapping[int, Sequence[AttemptRecord]] | None = None,
    count: int | None = None,
    **fields: Any,
) -> TaskRecord:
    task = TaskRecord(
        task_id=number, name=f"step_{number}", policy={}, attempts=attempts, items=items or {}, count=count
    )
    return TaskRecord(**(vars(task) | fields))


def a_run(*tasks: TaskRecord, **fields: Any) -> RunRecord:
    given = {"state": TypeRunState.FAILED, "began": BEGAN, "ended": at(10.5), "tasks": len(tasks)} | fields
    return RunRecord(run_id="7f3a9c12-1", workflow_id="nightly", environment={"python": "3.13.5"}, steps=tasks, **given)


def hostile_run(text: str) -> RunRecord:
    """A run that says the text wherever it may say something."""
    error = ErrorRecord(text, text, f"Traceback:\n{text}")
    files = FileRecord(made={text: FileState(1, digest=text)})
    attempt = an_attempt(FAILED)._replace(glimpse=text, fallback=text, errors=[error], files_text=files.as_text())
    item = AttemptRecord(0, 1, FAILED, at(1), 1.0, glimpse=text, errors=[error], files_text=files.as_text())
    tasks = [
        a_task(0, attempt, name=text, group=text, identity=text, code=text, policy={text: text}),
        a_task(1, an_attempt(), items={0: [item]}, count=1, name=text),
    ]
    environment = {"python": text, "argv": [text], "packages": {text: text}}
    facts = dict.fromkeys(("run_id", "workflow_id", "name", "reason", "mode", "trigger", "error"), text)
    more = dict.fromkeys(("process", "storage", "trace"), text)
    state, notes = a_run().state, [(BEGAN, text)]
    return RunRecord(
        **facts,
        **more,
        state=state,
        began=BEGAN,
        children=[text],
        notes=notes,
        steps=tasks,
        environment=environment,
        files=files,
    )


class Parsed(HTMLParser):
    """A page as a browser takes it: tags with their attributes, and the text in each element."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in ("meta", "link"):
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")
