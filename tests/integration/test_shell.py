"""Commands as steps: values are arguments whatever is in them, and a command ends with its step."""

import datetime
import importlib
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dotflow import CommandFailed, Config, DotFlow, Secret, shell
from dotflow.errors import InvalidAction, InvalidArgument
from dotflow.providers import ExecutorAsync, ExecutorThread, LogDefault, StorageFile
from dotflow.worker import shell as module
from tests.integration.children import MARK, SOON, Command, Scripts

MakeWorkflow = Callable[..., DotFlow]

HOSTILE = [
    "'; touch x; '", "\"; touch x; \"", "$(touch x)", "`touch x`", "${x:=$(touch x)}", "$((x[$(touch x)]))",
    "; touch x", "| touch x", "& touch x", "&& touch x", "|| touch x", "> x", "< x", "<(touch x)", "\ntouch x\n",
    "a\nb", "\n", "\r\n", "'", "\"", "\\", "\\'", "\\\\\"", "$", "$1", "${1}", "$@", "$HOME", "~", "*", "?", "[a-z]*",
    "{a,b}", "{a}", "{{a}}", "# x", "!!", "-rf", "--", "-n", "=", "%s%n", "a[$(touch x)]", "x=1", " ",
    "  two  spaces  ", "\t", "", "ü€𝄞", "\x01\x1b[31m", "\udcff", "EOF", "))", "]]", "}", "fi; done", "a" * 100_000,
]  # fmt: skip


@pytest.fixture(params=["bash", "sh"])
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shell that there is."""
    found = {"bash": ("bash", "-euo", "pipefail"), "sh": ("sh", "-eu")}[request.param]
    monkeypatch.setattr(module, "_found", lambda: found)
    return request.param


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
    return tmp_path


#: Where a value may stand, and what the command prints of `<value>`; {0} is the parameter, and ${{{0}}} its variable.
PLACES = {
    "a word": ("printf %s {0}", "<v>"),
    "behind a text": ("printf %s --x={0}", "--x=<v>"),
    "before a text": ("printf %s {0}.csv", "<v>.csv"),
    "beside quotes": ("printf %s 'a b'{0}\"c d\"", "a b<v>c d"),
    "twice": ("printf %s {0}{0}", "<v><v>"),
    "in a pipe": ("printf %s {0} | cat", "<v>"),
    "in a condition": ("if true; then printf %s {0}; fi", "<v>"),
    "in a loop": ("for v in {0}; do printf %s \"$v\"; done", "<v>"),
    "in a subshell": ("( printf %s {0} )", "<v>"),
    "behind a comment": ("# it's\nprintf %s {0}", "<v>"),
    "in double quotes": ("printf %s \"a ${{{0}}} b\"", "a <v> b"),
    "in a command substitution": ("v=$(printf %s. \"${{{0}}}\"); printf %s \"$v\"", "<v>."),
    "an argument of a function": ("f() {{ printf %s \"$1\"; }}; f \"${{{0}}}\"", "<v>"),
    "assigned": ("v=${{{0}}}; printf %s \"$v\"", "<v>"),
}  # fmt: skip


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_value_is_one_argument_wherever_it_stands(place: str, which: str, folder: Path) -> None:
    """Byte for byte, and nothing of it is run, in bash and in sh."""
    line, shown = PLACES[place]
    names = [f"v{index}" for index in range(len(HOSTILE))]
    is_variable = "${{{0}}}" in line
    lines = [line.format(name if is_variable else f"{{{name}}}") + "\nprintf '\\0'" for name in names]
    text = "\n".join([": {" + "} {".join(names) + "}", *lines] if is_variable else lines)
    step = shell(text, name="hostile", value="text")

    out = run_bytes(step, dict(zip(names, HOSTILE, strict=True)))

    assert out == [os.fsencode(shown.replace("<v>", value)) for value in HOSTILE]
    assert {path.name for path in folder.iterdir()} <= {"heredoc"}


def run_bytes(step: Any, values: dict[str, Any]) -> list[bytes]:
    """Calls a step whose value is a text; returns what it prints between NULs, as bytes."""
    out: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_value_of", lambda kind, data: out.append(data))
        step(**values)
    *parts, last = out[0].split(b"\0")
    assert last == b""
    return parts


def test_hostile_values_in_the_path_of_an_output(folder: Path) -> None:
    """A text is one part of a path, or it is refused; a Path leads where it leads. Nothing of either is run."""
    step = shell("printf x > {out}", name="write", outputs={"out": "build/{v}.d/{v}"}, value="out")
    made = set()
    for value in HOSTILE:
        if "/" in value or value in ("", "..") or len(value) > 200:
            with pytest.raises((InvalidArgument, OSError)):
                step(v=value)
        else:
            assert step(v=value).read_text() == "x"
            made.add(value)

    for value in ("..", "a/b", "/etc/x", "."):
        with pytest.raises(InvalidArgument, match=r"Pass a Path, or a text, a number or a date that is one part"):
            step(v=value)
    assert step(v=Path("deep/er")) == Path("build/deep/er.d/deep/er")
    assert {path.name for path in (folder / "build").glob("*.d/*")} == made - {"x"}
    assert [path.name for path in folder.iterdir()] == ["build"]


def test_twenty_thousand_names_fit(which: str, folder: Path) -> None:
    """A list is one argument for each element, beside other values, and an empty one is none."""
    names = [f'it\'s name {index}\n"$(touch x)"' for index in range(20_000)]
    step = shell("printf '%s\\0' {first} {names} {last}", name="names", value="text")

    assert run_bytes(step, {"first": "a", "names": names, "last": "z"}) == [os.fsencode(n) for n in ("a", *names, "z")]
    assert run_bytes(step, {"first": "a", "names": [], "last": "z"}) == [b"a", b"z"]
    assert run_bytes(step, {"first": "a", "names": ("b", 3), "last": "z"}) == [b"a", b"b", b"3", b"z"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("text", ["echo --x={names}", "echo {names}.csv", "{names}"])
def test_a_list_is_a_word_of_its_own(text: str) -> None:
    """Only its first element would have what stands before it."""
    step = shell(text, name="step", value="text")

    with pytest.raises(InvalidArgument, match=r"names='a list of 2' .* write \{names\} as a word of its own"):
        step(names=["a", "b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (3, "3"),
        (-1.5, "-1.5"),
        (1e300, "1e+300"),
        (Decimal("1.10"), "1.10"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00+00:00"),
        (datetime.time(3, 4), "03:04:00"),
        (Path("a/b.csv"), "a/b.csv"),
        (Path("-rf"), "./-rf"),
    ],
)
def test_texts_numbers_dates_and_paths(value: object, text: str) -> None:
    """Each has one text. A Path is never an option."""
    assert shell("printf %s {v}", name="step", value="text")(v=value) == text


@pytest.mark.parametrize(
    "value", [None, True, b"x", {"a": 1}, {1}, object(), "a\0b", "\ud800", Path("a\0b"), ["a", None], [["a"]], 1j]
)
def test_other_values_are_refused(value: object) -> None:
    """The message has the type and the accepted ones, and no command runs."""
    step = shell("touch x {v}", name="step")

    with pytest.raises(InvalidArgument, match=r"v=.* Pass a text, a number, a date, a Path, or a list of these\."):
        step(v=value)
    assert not Path("x").exists()


def test_a_text_that_no_argument_can_have_is_refused_with_the_reason() -> None:
    """It is a text, as the error asks for: the error names the null byte."""
    with pytest.raises(InvalidArgument, match="v='a str with a null byte or a lone surrogate' is not accepted"):
        shell("true {v}", name="step")(v="a\0b")


def test_too_many_arguments(folder: Path) -> None:
    """The system's error has a note on what to do."""
    step = shell("printf %s {v}", name="step")
    with pytest.raises(OSError, match="too long") as caught:
        step(v="a" * 200_000)
    assert any("Write the values to a file" in note for note in caught.value.__notes__)


# Values


@pytest.mark.parametrize(
    ("kind", "out", "value"),
    [
        (None, "x", None),
        ("text", "a\n b \n\n", "a\n b "),
        ("text", "", ""),
        ("lines", "a\n\n b\r\n", ["a", "", " b\r"]),
        ("lines", "\n", []),
        ("lines", "", []),
        ("json", '{"a": [1, null]}\n', {"a": [1, None]}),
    ],
)
def test_the_value_is_what_the_command_prints(kind: str | None, out: str, value: object, capfd: Any) -> None:
    """As a text, as lines or as JSON; without a kind it goes to the step's stdout."""
    assert shell("printf %s {out}", name="step", value=kind)(out=out) == value
    assert capfd.readouterr().out == (out if kind is None else "")


def test_an_output_is_whole_or_not_there(folder: Path) -> None:
    """A command that fails leaves the earlier file; missing folders are made; the value is its path."""
    step = shell(
        "printf %s {text} > {out}; exit {code}",
        name="step",
        outputs={"out": Path("build/{day}/{rows.stem}{rows.suffix}-{rows.parent}-{rows.name}.txt")},
        value="out",
    )
    target = Path("build/2026-01-02/a.csv-data-a.csv.txt")
    given = {"day": datetime.date(2026, 1, 2), "rows": Path("data/a.csv")}

    assert step(text="old", code=0, **given) == target
    with pytest.raises(CommandFailed):
        step(text="new", code=1, **given)

    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_an_output_that_was_not_written_is_an_error(folder: Path) -> None:
    """No output of the command is replaced then."""
    step = shell("echo 1 > {one}; : {two}", name="step", outputs={"one": "1.txt", "two": "2.txt"})

    with pytest.raises(FileNotFoundError, match=r"wrote no \{two\}: '2\.txt'"):
        step()

    assert list(folder.iterdir()) == []


def test_an_output_may_be_a_folder() -> None:
    """The command makes it."""
    step = shell("mkdir {out}; echo 1 > {out}/a", name="step", outputs={"out": "parts"}, value="out")
    assert (step() / "a").read_text() == (step() / "a").read_text() == "1\n"


def test_a_folder_of_its_own_and_variables(folder: Path, which: str) -> None:
    """Paths name the same files there; a text stays as it is."""
    (folder / "sub").mkdir()
    (folder / "in.txt").write_text("here\n")
    step = shell(
        'cat {rows} > {out}; pwd >> {out}; echo "$LETTER" {text} >> {out}',
        name="step",
        outputs={"out": "out.txt"},
        cwd="sub",
        env={"LETTER": "x y"},
        value="out",
    )

    assert step(rows=Path("in.txt"), text="in.txt") == Path("out.txt")
    assert Path("out.txt").read_text().splitlines() == ["here", str(folder / "sub"), "x y in.txt"]


# Failures


def test_a_failed_command_names_its_code_itself_and_its_last_lines(which: str, capfd: Any) -> None:
    """The command is one to copy; its stderr goes on to the step's meanwhile."""
    step = shell(
        'for n in $(seq 30); do echo "line $n" >&2; done; cat {rows} {x}; exit 1 # {{x}}\n', name="step", ok=(0, 3)
    )

    with pytest.raises(CommandFailed) as caught:
        step(rows=["it's", "b"], x='a"$')

    error = caught.value
    assert (error.name, error.code) == ("step", 1)
    assert error.command.endswith("done; cat 'it'\"'\"'s' b 'a\"$'; exit 1 # {x}")
    assert error.output.splitlines()[-1].startswith("cat: ")
    assert len(error.output.splitlines()) == 20
    assert capfd.readouterr().err.splitlines()[:30] == [f"line {n}" for n in range(1, 31)]


def test_codes_that_are_a_success() -> None:
    """`grep` ends with 1 where it finds nothing; a signal is a negative code."""
    assert shell("grep x /dev/null", name="step", ok=(0, 1), value="lines")() == []
    with pytest.raises(CommandFailed, match=r"was killed by SIGTERM: kill \$\$"):
        shell("kill $$", name="step")()


def test_the_exit_code_as_a_value(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever it is, but of a signal, which leaves none. Stdout is output then."""
    check = shell("echo looked; exit {code}", name="check", value="code")

    assert [check(code=code) for code in (0, 1, 255)] == [0, 1, 255]
    assert capfd.readouterr().out == "looked\n" * 3
    with pytest.raises(CommandFailed, match="SIGTERM"):
        shell("kill $$", name="step", value="code")()
    with pytest.raises(InvalidAction, match="returns every exit code"):
        shell("true", name="step", value="code", ok=(0, 1))
    with pytest.raises(InvalidAction, match=r"has no outputs.* Pass ok=\(0, 1\)"):
        shell("true > {out}", name="step", value="code", outputs={"out": "out.txt"})


def test_a_pipeline_fails_with_any_of_its_programs() -> None:
    """And a variable that is not set is an error."""
    for text in ("false | cat", "echo $missing_variable"):
        with pytest.raises(CommandFailed):
            shell(text, name="step")()


def test_without_bash_it_is_sh_and_the_log_has_it_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without both there is no step."""
    module._found.cache_clear()
    (folder / "bin").mkdir()
    (folder / "bin" / "sh").symlink_to(shutil.which("sh") or "")
    monkeypatch.setenv("PATH", str(folder / "bin"))
    try:
        step = shell("false | echo $0", name="step", value="text")
        assert step() == step() == "step"
        assert [record.message for record in caplog.records] == [
            f"There is no bash, so commands run in {folder}/bin/sh, where only the last program of a pipeline can "
            f"fail. Install bash."
        ]
        module._found.cache_clear()
        (folder / "bin" / "sh").unlink()
        with pytest.raises(InvalidAction, match=r"neither bash nor sh\. Install bash"):
            shell("date", name="step")
    finally:
        module._found.cache_clear()


def test_stdin_is_empty() -> None:
    """A program that reads it ends at once, also in a terminal."""
    assert shell("cat", name="step", value="text")() == ""


# Secrets


def test_a_secret_never_reaches_the_arguments_of_a_process(
    quiet: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the command runs, its environment has the secret, and no command line of the machine does."""
    token = f"tok-{uuid.uuid4().hex}"  # in no command line of another test
    monkeypatch.setenv("TOKEN", token)
    step = shell(
        "printf '%s\\n' \"$TOKEN\"; cat /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' || true",
        name="step",
        env={"TOKEN": Secret("TOKEN")},
        value="lines",
    )
    workflow = DotFlow(quiet())
    workflow.task.add(step)

    first, *seen = workflow.start().value(step)

    assert first == token
    assert "step" in seen
    assert [line for line in seen if token in line] == []


def test_a_secret_parameter_is_refused_as_an_argument(quiet: Callable[..., Config]) -> None:
    """Nothing runs; as a variable of the environment it is accepted."""
    workflow = DotFlow(quiet(), params={"token": Secret("API_TOKEN")})
    workflow.task.add(shell("touch x; curl -H {token} localhost", name="step"))
    with pytest.raises(InvalidAction, match=r"'token' is a secret, .* write \$TOKEN"):
        workflow.start(params={"token": "tok-5f2c91d0a7"})
    assert not Path("x").exists()

    workflow = DotFlow(quiet(), params={"token": Secret("API_TOKEN")})
    step = shell('printf %s "$token"', name="step", env={"token": Secret("OTHER")}, value="text")
    workflow.task.add(step)
    assert workflow.start(params={"token": "tok-5f2c91d0a7"}).value(step) == "tok-5f2c91d0a7"


def test_secrets_in_the_error_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the command, where an earlier step has returned one, and in the last lines."""
    monkeypatch.setenv("TOKEN", "tok-5f2c91d0a7")
    step = shell('echo "$TOKEN" {x} >&2; exit 1', name="step", env={"TOKEN": Secret("TOKEN")})

    with pytest.raises(CommandFailed) as caught:
        step(x="Bearer tok-5f2c91d0a7")

    assert str(caught.value).count("***") == 3
    assert "tok-5f2c91d0a7" not in str(caught.value)


# Ending


#: A tree: a child, a grandchild, an orphan, one that ignores signals, and one in the background of a pipe.
TREE = """
: {log}
sleep 301 &
( sleep 302 & sleep 303 & wait ) &
( sleep 304 & )
( trap '' TERM INT HUP; sleep 305; sleep 305 ) &
yes | sleep 306 &
echo started >> "$log"
sleep 307
"""

ENDED = """
import psutil
from dotflow import shell
from dotflow.providers import ExecutorAsync

way = sys.argv[1]
step = shell({tree!r}, name="tree", timeout=3, isolate=way == "isolate")
executor = {{"thread": ExecutorThread(), "async": ExecutorAsync()}}.get(way)
workflow = DotFlow(Config(log=LogDefault(output="none"), executor=executor) if executor else config(),
                   params={{"log": HERE / "log"}})
def is_of_tree(process):  # not of another test
    try:
        return process.name() == "sleep" and process.environ().get({mark!r}) == os.environ[{mark!r}]
    except psutil.Error:
        return False

@action
def following():
    until = time.monotonic() + {soon}  # what has been killed takes a moment on a busy machine
    while left := sum(map(is_of_tree, psutil.process_iter())):
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    return left


workflow.task.add(step).add(following, after=["tree"])
tasks = workflow.start(mode="parallel" if way == "parallel" else "sequential", keep_going=True).tasks
say(tasks=told(tasks))
"""


@pytest.mark.exhaustive(keep_every=8)
@pytest.mark.processes
@pytest.mark.start_method
@pytest.mark.parametrize("way", ["sequential", "thread", "async", "parallel", "isolate"])
def test_a_timeout_ends_a_command_with_all_that_it_has_started(way: str, scripts: Scripts) -> None:
    """The tree is gone when the attempt has ended, whoever its parents are, and the next step runs."""
    end = scripts.run(ENDED.format(tree=TREE, soon=SOON, mark=MARK), way)

    (tree, following) = end.facts["tasks"]
    assert tree[0] == "Failed"
    assert tree[2][0][0] == "TimeoutError"
    assert following[:2] == ["Completed", 0]
    assert (scripts.folder / "log").read_text() == "started\n"


@pytest.mark.exhaustive(keep_every=2)
@pytest.mark.processes
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_command_in_a_worker_stays_in_its_group(mode: str, quiet: Callable[..., Config]) -> None:
    """A worker's group ends with its coordinator, even with kill -9; elsewhere the command leads one of its own."""
    step = shell("cut -d ' ' -f 5 /proc/$$/stat; echo $$; echo $PPID", name="step", value="lines")
    workflow = DotFlow(quiet())
    workflow.task.add(step)

    group, own, parent = workflow.start(mode=mode).value(step)

    assert group == (own if parent == str(os.getpid()) else parent)


INTERRUPTED = """
from dotflow import shell

workflow = DotFlow(config(), params={{"log": HERE / "log"}})
workflow.task.add(shell({tree!r}, name="tree"))
workflow.start()
"""


@pytest.mark.processes
def test_ctrl_c_ends_the_command(scripts: Scripts) -> None:
    """The command has a process group of its own, so the signal reaches dotflow alone, which ends it."""
    source = INTERRUPTED.format(tree=TREE)
    with scripts.start(source) as script:
        wait_for(lambda: (scripts.folder / "log").exists())
        script.process.send_signal(signal.SIGINT)
        script.end()
        assert script.left_behind() == []


def wait_for(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.01)


# In workflows


PIPELINE = """\
from pathlib import Path

from dotflow import DotFlow, shell

letters = shell("printf '%s\\n' c b a a", name="letters", value="lines")
write = shell("printf '%s\\n' {letter} > {out}", name="write", outputs={"out": "build/{letter}.txt"}, value="out")
merge = shell("sort -u {write} > {out}", name="merge", outputs={"out": "merged.txt"}, value="out")
count = shell("wc -l < {merge}; echo counted {merge} >&2", name="count", value="json", retry=2)


def pipeline(**options):
    workflow = DotFlow(**options)
    workflow.task.add(letters).add(write, each={"letter": "letters"}).add([merge, count])
    return workflow
"""


@pytest.mark.processes
@pytest.mark.start_method
@pytest.mark.parametrize("mode", ["sequential", "parallel", "background", "thread", "async"])
def test_commands_are_steps_like_any_others(mode: str, quiet: Callable[..., Config], folder: Path) -> None:
    """They take the values of tasks by name, one run for each item of a map, and lists of all of them."""
    executor: Any = {"thread": ExecutorThread(), "async": ExecutorAsync()}.get(mode)
    config = Config(log=LogDefault(output="none"), executor=executor) if executor else quiet()
    workflow = jobs(folder).pipeline(config=config)

    run = workflow.start(mode=mode if mode in ("parallel", "background") else "sequential")
    run.wait()

    assert run.value("write") == [Path(f"build/{letter}.txt") for letter in "cbaa"]
    assert Path("merged.txt").read_text() == "a\nb\nc\n"
    assert run.value("count") == 3
    assert [task.name for task in run.tasks] == ["letters", "write", "merge", "count"]
    assert "merge" in workflow.task.graph()


def jobs(folder: Path) -> Any:
    """Returns the module with the pipeline."""
    (folder / "jobs.py").write_text(PIPELINE)
    sys.path.insert(0, str(folder))
    return importlib.import_module("jobs")


def test_a_changed_command_runs_again_and_a_finished_one_does_not(folder: Path, quiet: Callable[..., Config]) -> None:
    """A resume restores what a command has returned; `resume="changed"` runs one with another text."""
    storage = StorageFile(folder / "kept")

    def run(text: str, **options: Any) -> Any:
        workflow = DotFlow(quiet(storage=storage), workflow_id="nightly")
        workflow.task.add(shell(f"echo x >> ran; {text}", name="step", value="text"))
        return workflow.start(**options).value("step")

    assert run("echo 1") == run("echo 2", resume=True) == "1"
    assert run("echo 2", resume="changed") == run("echo 2", resume="changed") == "2"
    assert Path("ran").read_text() == "x\nx\n"


def test_a_cached_command(folder: Path, quiet: Callable[..., Config]) -> None:
    """The cache tells commands of one name apart by their text, and values by their content."""
    for text, value in (("echo {v}", "a"), ("echo {v}", "a"), ("echo {v}", "b"), ("echo -n {v}", "a")):
        workflow = DotFlow(quiet(storage=StorageFile(folder / "kept")), params={"v": "a"})
        workflow.task.add(shell(f"echo x >> ran; {text}", name="step", value="text", cache=True))
        assert workflow.start(params={"v": value}).value("step") == value
    assert Path("ran").read_text() == "x\nx\nx\n"


def test_a_pipeline_of_the_command_line(folder: Path, command: Command, scripts: Scripts) -> None:
    """`plan`, `start`, `show`, `graph` and `replay` take commands as they take functions."""
    jobs(folder)
    workflow = ("--workflow", "jobs.pipeline")

    assert "merge" in command("plan", *workflow).out
    assert "merge" in command("graph", *workflow).out
    with scripts.command("start", *workflow, "--storage", "file") as script:
        assert script.end().code == 0
    assert "counted merged.txt" in command("show", "--output", "last", "count").out
    assert json.loads(command("show", "--json", "last").out)["tasks"][2]["identity"] == "shell:merge"
    Path("merged.txt").write_text("only\n")
    with scripts.command("replay", "last", "count") as script:
        assert "returned 1\n" in script.end().out
