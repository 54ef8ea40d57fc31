"""A history is data: `dotflow replay` runs nothing that only a foreign history names."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.children import COMMAND, Script
from tests.integration.terminals import Terminal
from tests.security.forged import Victim, execute, forge, forge_copy

NO_STEP = "__main__:<lambda>"


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def start(*words: str) -> dict[str, Any]:
    return {"trigger": "command", "argv": ["dotflow", "start", *words]}


#: What a forged history says; {mail} is the attacker's folder, {marker} the file that the attack makes.
ATTACKS: dict[str, dict[str, Any]] = {
    "a command of the system": start("--workflow", "os:system", "--param", "command=touch {marker}"),
    "through the user's own module": start(
        "--workflow", "mine:subprocess.getoutput", "--param", "cmd=touch {marker}"
    ),
    "by a schedule": {
        **start("--workflow", "os:system", "--param", "command=touch {marker}"),
        "trigger": "schedule",
    },
    "a step": start("--step", "evil:step"),
    "a callback": start("--step", "mine:load", "--callback", "evil:step"),
    "a module of the user's": start("--step", "danger:step"),
    "a program": {"argv": ["{mail}/evil.py"]},
    "a program in the folder of the run": {"argv": ["evil.py"], "folder": "{mail}"},
    "a module as a program": {"argv": ["evil.py"], "folder": "{mail}", "module": "evil"},
    "the user's own program": {"argv": ["danger.py"], "folder": "{work}"},
    "an identity": {"identity": "danger:step"},
    "an identity beside a program": {"identity": "evil:step", "argv": ["{mail}/program.py"]},
    "an identity beside a module": {
        "identity": "evil:step", "argv": ["program.py"], "folder": "{mail}", "module": "program",
    },
    "the folder of a module of the user's": {
        "identity": "evil:step", "argv": ["{work}/danger.py"], "folder": "{mail}", "module": "danger",
    },
    "a program among the outputs": {"argv": ["{work}/.output/evil.py"]},
    "a folder among the outputs": {
        "identity": "evil:step", "argv": ["{work}/danger.py"], "folder": "{work}/.output", "module": "danger",
    },
    "an identity in a package": {"identity": "danger.inside:step"},
    "a folder as a package": {"identity": "mail.evil:step", "folder": "{mail}/.."},
}  # fmt: skip


def lay(victim: Victim) -> None:
    """Puts code that must not run into both folders."""
    for folder, name in (
        (victim.mail, "evil"),
        (victim.mail, "program"),
        (victim.folder / ".output", "evil"),
        (victim.folder, "danger"),
        (victim.mail, "__main__"),
    ):
        (folder / f"{name}.py").write_text(victim.attack + "from dotflow import action\nstep = action(lambda: 1)\n")


def filled(victim: Victim, facts: dict[str, Any]) -> dict[str, Any]:
    def fill(text: str) -> str:
        return text.format(mail=victim.mail, work=victim.folder, marker=victim.marker)

    return {key: fill(fact) if isinstance(fact, str) else [fill(word) for word in fact] for key, fact in facts.items()}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_foreign_history_runs_nothing(victim: Victim, attack: str) -> None:
    """Without a terminal it is refused in one line that names what to pass, and the exit code says so."""
    lay(victim)
    history = victim.send()
    forge(history, **filled(victim, ATTACKS[attack]))

    ended = victim.dotflow("replay", "failed", "1", "--history", str(history))

    assert not victim.marker.exists()
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 1
    assert "Pass --" in ended.err


OWN_ATTACKS = [
    "a command of the system", "through the user's own module", "by a schedule", "a program",
    "a program in the folder of the run", "a module as a program", "an identity beside a program",
    "the folder of a module of the user's", "a program among the outputs",
    "a folder among the outputs",
]  # fmt: skip


@pytest.mark.parametrize("attack", OWN_ATTACKS)
def test_the_users_own_history_runs_only_the_users_own_code(victim: Victim, attack: str) -> None:
    """Not the standard library, not a program elsewhere, whichever way it is named."""
    lay(victim)
    forge(victim.history, **filled(victim, ATTACKS[attack]))

    ended = victim.dotflow("replay", "failed", "1")

    assert not victim.marker.exists()
    assert ended.code in (2, 3), ended
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("identity", ["this:d", "idlelib.idle:step", "click.testing:CliRunner", "pip.__main__:step"])
def test_a_module_that_is_not_the_users_own_is_not_imported(victim: Victim, identity: str) -> None:
    """Neither one of the standard library nor an installed one, also by the user's own history."""
    forge(victim.history, identity=identity)

    ended = victim.dotflow("replay", "failed", "1")

    assert (ended.code, "Zen" in ended.out) == (2, False), ended
    assert "it is not your own code" in ended.err or "no module" in ended.err


def test_code_that_the_command_line_names_is_run(victim: Victim) -> None:
    """Of a foreign history, too: a step, or a workflow. It sees the inputs of the history."""
    history = str(victim.send())
    named = victim.dotflow("replay", "failed", "load", "--history", history, "--step", "mine:load")
    built = victim.dotflow("replay", "failed", "load", "--history", history, "--workflow", "mine:build")
    other = victim.dotflow("replay", "failed", "load", "--history", history, "--step", "mine:extract")

    assert named.code == built.code == 1
    assert "now: ZeroDivisionError" in named.out
    assert "now: ZeroDivisionError" in built.out
    assert "step      mine:load → mine:extract" in other.out


def test_differences_are_printed_before_any_code_runs(victim: Victim) -> None:
    """Python, the folder and the commit stand above what the module of the step prints when it is imported."""
    forge(victim.history, identity="mine:load", python="2.7")
    (victim.folder / "mine.py").write_text("print('imported', flush=True)\n" + (victim.folder / "mine.py").read_text())

    lines = victim.dotflow("replay", "failed", "1").out.splitlines()

    assert lines[1].startswith("  python    2.7 → 3.")
    assert "imported" in lines[2:]


def test_the_exit_code_tells_whether_anything_ran(victim: Victim) -> None:
    """3: the module of the step was imported, and then an input was missing."""
    execute(victim.history, "UPDATE copies SET document = NULL")

    assert victim.dotflow("replay", "failed", "load").code == 3
    assert victim.dotflow("replay", "failed", "nothing").code == 2


def test_the_history_that_the_environment_names_is_the_users_own(victim: Victim) -> None:
    """The page on deployment recommends it."""
    ended = victim.dotflow("replay", "failed", "load", DOTFLOW_HISTORY=str(victim.send()))

    assert (ended.code, "loading [1, 2, 0]" in ended.out) == (1, True), ended


@pytest.mark.parametrize("spoil", ["others", "link", "folder", "wal", "elsewhere", "above", "named"])
def test_a_history_that_others_may_have_written_is_foreign(victim: Victim, spoil: str) -> None:
    """Its file or a folder above is writable by others, it is a link, or neither in the default place nor named."""
    environment = {}
    options = []
    if spoil == "above":
        (victim.mail / "data").mkdir()
        history = victim.send().rename(victim.mail / "data" / "history.db")
        victim.mail.chmod(0o777)
        environment["DOTFLOW_HISTORY"] = str(history)
    elif spoil == "named":
        environment["DOTFLOW_HISTORY"] = str(victim.send())
        victim.send().chmod(0o666)
    elif spoil == "others":
        victim.history.chmod(0o602)
    elif spoil == "folder":
        victim.history.parent.chmod(0o777)
    elif spoil == "wal":
        victim.history.with_name("history.db-wal").touch()
        victim.history.with_name("history.db-wal").chmod(0o666)
    elif spoil == "link":
        victim.history.rename(victim.mail / "history.db")
        victim.history.symlink_to(victim.mail / "history.db")
    else:
        options = ["--history", str(victim.send())]

    ended = victim.dotflow("replay", "failed", "load", *options, **environment)

    assert ended.code == 2
    assert "the history is not your own" in ended.err
    assert "loading" not in ended.out


def test_no_pickle_of_a_foreign_history_is_loaded(victim: Victim) -> None:
    """Also where the user's workflow keeps pickles in its own history: that trust is for one file."""
    trusting = "Config(history=HistorySQLite(pickle=True)), "
    source = (victim.folder / "mine.py").read_text().replace("DotFlow(", f"DotFlow({trusting}")
    (victim.folder / "mine.py").write_text(
        f"from dotflow import Config\nfrom dotflow.providers import HistorySQLite\n{source}"
    )
    history = victim.send()
    forge_copy(history, Bomb(victim.marker), pickle=True)

    for named in ("--step", "mine:load"), ("--workflow", "mine:build"):
        ended = victim.dotflow("replay", "failed", "load", "--history", str(history), *named)
        assert ended.code == 3, ended
        assert len(ended.err.splitlines()) == 1

    assert not victim.marker.exists()


def test_a_value_that_mentions_pickle_runs_nothing(victim: Victim) -> None:
    """The command of the run is not needed to read it."""
    history = victim.send()
    forge(history, **filled(victim, ATTACKS["a command of the system"]))
    forge_copy(history, "pickle")

    ended = victim.dotflow("replay", "failed", "load", "--history", str(history), "--step", "mine:load")

    assert not victim.marker.exists()
    assert ended.code == 1, ended


def test_a_storage_with_pickles_is_only_the_command_lines(victim: Victim) -> None:
    """`--pickle` of the command in the history is asked for, since the folder of the pickles is the history's word."""
    store = victim.mail / "store"
    execute(victim.history, "UPDATE copies SET document = NULL")
    words = ["--workflow", "mine:build", "--storage", "file", "--path", str(store), "--pickle"]
    forge(victim.history, identity=NO_STEP, **start(*words))

    ended = victim.dotflow("replay", "failed", "1")

    assert (ended.code, "--pickle" in ended.err) == (2, True), ended


@pytest.mark.parametrize("terminal", [(200, 40)], indirect=True)
@pytest.mark.parametrize(("answer", "code"), [("n", 2), ("y", 1)])
def test_in_a_terminal_the_user_is_asked(victim: Victim, terminal: Terminal, answer: str, code: int) -> None:
    """With the file that would be imported, in which nothing acts on the terminal."""
    history = victim.send()
    command = ["-c", COMMAND, "replay", "failed", "load", "--history", str(history)]

    with Script(command, victim.folder, terminal.descriptor) as child:
        terminal.see(lambda lines: "Run it? [y/N]:" in "".join(lines))
        assert "loading" not in "".join(terminal.all())
        assert f"the step mine:load ({victim.folder / 'mine.py'})" in "".join(terminal.all())
        terminal.type(f"{answer}\n")
        assert child.end().code == code


def test_no_command_of_a_foreign_history_is_offered(victim: Victim) -> None:
    """Neither by show nor by the report: those that run code, or have control characters."""
    history = victim.send()
    forge(history, **start("--workflow", "os:system", "--param", "command=touch x", "--storage", "file"))
    report = str(victim.mail / "run.html")

    texts = [victim.dotflow("show", "failed", *more, "--history", str(history)).out for more in ([], ["1"], ["--json"])]
    assert victim.dotflow("report", "failed", "--history", str(history), "-o", report).code == 0
    texts.append(Path(report).read_text().partition('id="data">')[2].partition("</script>")[0])

    assert all("dotflow replay" not in text and "os:system --param" not in text for text in texts)
    assert "dotflow replay" in victim.dotflow("show", "failed").out


def test_a_command_to_copy_has_no_control_characters(victim: Victim) -> None:
    """A step may be called anything."""
    execute(victim.history, "UPDATE steps SET name = ?", "load\x1b[2J\nrm -rf")

    text = victim.dotflow("show", "failed", "--json").out

    assert '"command": "dotflow' not in text or "u001b" not in text.partition('"commands"')[2]


def test_a_run_id_is_no_path(victim: Victim) -> None:
    """A report lands in the current folder, whatever the id of the run is."""
    execute(victim.history, "UPDATE runs SET run_id = ?", "/../../x")

    ended = victim.dotflow("report", "last")

    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert not list(victim.folder.parent.rglob("*.html"))
