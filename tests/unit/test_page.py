"""The report: one HTML file in which whatever a run says is text."""

import hashlib
import json
import re
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dotflow.core.types.run_state import TypeRunState
from dotflow.records.record import OutputChunk
from dotflow.report import page as page_module
from dotflow.report.document import document, output_objects
from dotflow.report.page import (
    HEAD,
    MAX_ERRORS,
    MAX_TASKS,
    MODULES,
    SCRIPT,
    STYLE,
    TITLE,
    make_page,
    read_part,
    write_page,
)
from tests.unit.run_samples import BEGAN, FAILED, HOSTILE, Parsed, a_run, a_task, an_attempt, hostile_run


def hostile_page(text: str) -> tuple[dict[str, Any], str]:
    """The document of such a run, with its output, and the page."""
    run = hostile_run(text)
    data = text.encode(errors="surrogatepass")
    output = output_objects(run, [OutputChunk(0, None, 1, 0, BEGAN, 1, data)], {})
    shown = document(run, output={"output": output}) | {"commands": [{"task_id": 0, "item": None, "command": text}]}
    return shown, make_page(shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_run_can_say_anything(text: str) -> None:
    """The page has the same elements as any other one, and the document comes back as it was."""
    shown, page = hostile_page(text)
    parsed, harmless = Parsed(page), Parsed(hostile_page("text")[1])

    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in harmless.tags]
    assert [attributes for _, attributes in parsed.tags] == [attributes for _, attributes in harmless.tags]
    data, script = parsed.texts["script"]
    assert json.loads(data) == json.loads(json.dumps(shown))
    assert script == read_part("page.js")
    assert not re.search("[<>&\u2028\u2029\0]", data)
    page.encode()


def test_texts_of_a_run_show_their_control_characters() -> None:
    """Without a script, too: nothing moves a cursor or turns the direction of what follows."""
    page = hostile_page("\x1b[31m\u202e\0\ud800")[1]

    assert not re.search("[\0\x1b\u202e\ud800]", page.partition('<script type="application/json"')[0])
    assert r"\x1b[31m\u202e\x00\ud800" in page


def test_a_crashed_run_ran_at_least_until_its_last_sign() -> None:
    """The moment of the crash is unknown. The part without a script has the words; the document says it to the page."""
    page = make_page(document(a_run(state=TypeRunState.CRASHED)))

    assert "02:00:00 UTC, ran at least 10.5 s." in page
    assert '"is_end_known":false' in page
    assert "02:00:00 UTC, took 10.5 s." in make_page(document(a_run()))


def test_nothing_is_fetched() -> None:
    """The policy allows the page's own script and style, and names no address."""
    parsed = Parsed(hostile_page("text")[1])
    (policy,) = [
        attributes["content"]
        for tag, attributes in parsed.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]

    def digest(text: str) -> str:
        return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src {digest(parsed.texts['script'][1])};" in policy
    assert f"style-src {digest(parsed.texts['style'][0])};" in policy
    assert "unsafe" not in policy
    assert ":" not in policy.replace("img-src data:", "")
    addresses = {
        value
        for _, attributes in parsed.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action")
    }
    assert addresses <= {"data:,"}


def test_the_parts_fit_into_a_page() -> None:
    """All of them are replaced. Neither script nor style ends its element, and no line end changes its digest."""
    assert all(read_part("page.html").count(part) == 1 for part in (HEAD, TITLE, STYLE, SCRIPT))
    for name in ("page.css", "page.js"):
        part = read_part(name)
        assert not re.search("</(script|style)|<!--|\r|\0", part, re.IGNORECASE)


def test_each_module_of_the_script_is_in_it() -> None:
    """A file in page/ that MODULES lacks would never run. A name stands for one thing: all share one scope."""
    folder = Path(str(page_module.__file__)).with_name("page")
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.js" for name in MODULES)

    names = re.findall(r"^(?:const|let|(?:async )?function) (\w+)", read_part("page.js"), re.MULTILINE)
    assert len(names) > 100
    assert [name for name, times in Counter(names).items() if times > 1] == []


def test_the_page_tells_its_run_without_a_script() -> None:
    """State, tasks and errors stand there as text."""
    failed = a_task(1, an_attempt(FAILED), name="load")
    run = a_run(a_task(0, an_attempt(), name="extract"), failed, a_task(2, name="notify"))
    parsed = Parsed(make_page(document(run)))

    assert parsed.texts["h1"] == parsed.texts["title"] == ["✗ Failed: nightly, run 7f3a9c12"]
    cells = parsed.texts["td"]
    assert [text for text in cells if re.match(r"\d \w", text)] == ["0 extract", "1 load", "2 notify"]
    assert {"✓ Completed", "✗ Failed", "· Not started", "61 MB", "42"} <= set(cells)
    assert parsed.texts["pre"] == ["Traceback ...\nConnectionError: closed"]


def test_of_many_tasks_the_page_without_a_script_has_the_first_ones() -> None:
    """It says how many there are more."""
    page = make_page(document(a_run(*(a_task(number, an_attempt(FAILED)) for number in range(MAX_TASKS + 7)))))

    assert "and 7 more tasks" in page
    assert f"and {MAX_TASKS + 7 - MAX_ERRORS} more errors" in page


def test_a_page_is_written_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier one stays until the new one is there, and nothing else is left in the folder."""
    path = tmp_path / "reports" / "run.html"
    assert write_page(path, document(a_run(a_task(0)))) == path
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", fail)
    with pytest.raises(OSError, match="No space left"):
        write_page(path, document(a_run()))
    monkeypatch.undo()

    assert [file.name for file in path.parent.iterdir()] == ["run.html"]
    assert path.read_bytes() == before


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    link, target = tmp_path / "link.html", tmp_path / "target.html"
    target.write_text("before")
    link.symlink_to(target.name)

    write_page(link, document(a_run()))

    assert link.is_symlink()
    assert target.read_text().startswith("<!doctype html>")


def test_links_in_a_circle_are_replaced(tmp_path: Path) -> None:
    """They lead nowhere."""
    link, other = tmp_path / "link.html", tmp_path / "other.html"
    link.symlink_to(other.name)
    other.symlink_to(link.name)

    write_page(link, document(a_run()))

    assert link.read_text().startswith("<!doctype html>")


def test_a_folder_is_no_page(tmp_path: Path) -> None:
    """It is refused."""
    with pytest.raises(IsADirectoryError):
        write_page(tmp_path, document(a_run()))
