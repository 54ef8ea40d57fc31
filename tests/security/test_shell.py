"""Commands get hostile values: the shell runs nothing of them, in whatever command they stand."""

import os
import random
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from dotflow import CommandFailed, shell
from dotflow.errors import InvalidAction, InvalidArgument
from dotflow.worker import shell as module

#: Each would make the file `ran`, if the shell ran it as text, as arithmetic, as a name, as options or as a prompt.
RUNS: Final = (
    "touch ran", ">ran", ";>ran;", "\n>ran\n", "$(>ran)", "`>ran`", "'; >ran; '", '"; >ran; "', "\\'; >ran #",
    "a[$(>ran)]", "a[$(>ran)]=1", "a[$(>ran)]+1", "x=$(>ran)", "$((a[$(>ran)]))", "${x:=$(>ran)}", "$[a[$(>ran)]]",
    "-v", "-va[$(>ran)]", "-e>ran", "eval", "eval >ran", "trap", "!", "(", "=", "-a", "-o", "EXIT", ") >ran;;",
    "() { :; }; >ran", "EOF\n>ran\nEOF", "}; >ran; {", "]] || >ran", "0 -o -v a[$(>ran)]", "<(>ran)", "& >ran &",
)  # fmt: skip
LISTS: Final[tuple[list[str], ...]] = (["-v", "a[$(>ran)]"], ["eval", ">ran"], ["EXIT", ">ran"], [">ran", "EXIT"], [])

PREFIXES: Final = (
    "", "", "", "! ", "if ", "then ", "x=1 ", "x={a} ", "2>/dev/null ", ">o 2>&1 ", "{ ", "( ", "$(", 'x="$(', "x=$(",
    "command ", "builtin ", "exec ", "time ", "time -p ", "coproc ", "function f { ", "f() { ", "for x do ", "\\",
    "for x in {a}; do ", "case x in x) ", "case {a} in\n{b})\n", "while ", "x=( ", "[[ x && ", "(( ", "a[", "env ",
    "cat <<EOF\n", "`", "# ", "echo $(date) ", "sort $(case x in x) ", "eval $(echo 1; ", "export ", "y", "\\\n",
    "x=(1 2) ", "x[{a}]=1 ", ">f $(", "2>f $x ", "{{fd}}>f ", "&>f ", "x= $(", "x=1 $x ", "echo x &>f ",
    "for RANDOM in ",
)  # fmt: skip
COMMANDS: Final = (
    "echo", "printf", "printf '%s'", "printf -v", "printf '%d'", "eval", "trap", "read -r", "let", "declare", "local",
    "declare -i n=1;", "export", "unset", "test", "[", "[ -n", "[ -v", "[[", "((", "mapfile -C", "mapfile", "getopts x",
    "source", ".", "wait -p", "select x in", "for x in", "set --", "set -x; PS4=", "cd", "shift", "exit", "return",
    "jobs -x", "hash -p", "alias x=", "enable -f", "ulimit", "umask", "true", ":", "f", "case", "", "RANDOM=", "n=",
    "$x", "'eval'", "e\\\nval", "typeset -n r=", "type", "kill -l", "cat", "compgen -F", "SECONDS=", "x+=", "bind -x",
)  # fmt: skip
ARGUMENTS: Final = (
    " {a}", " {a} {b}", ' "{a}"', ' "x {a} y"', " x{a}", " -- {a}", " {a} EXIT", " '{a}'", ' "$[{a}]"', " $(({a}))",
    " ${{x:-{a}}}", ' "${{x:-{a}}}"', " a[{a}]", " < {a}", " > o{a}", " <<< {a}", " {a} = {b} ]", " {a} -eq 1 ]",
    " {a} ]", " {a} {b} ]", " {a} = x -o {b} = y ]", " {a} ]]", " {a} -eq 1 ]]", " {a} ))", "{a}", "={a}", " x={a}",
    ' "$(echo {a})"', " $(echo {a}) {b}", " `echo {a}`", " <<EOF\n{a}\nEOF", " \\\n {a}", " \\\n#' {a}", " x {a}",
)  # fmt: skip
SUFFIXES: Final = ("", "", "; echo {b}", " | cat", " )", "; done", " }; f {b}", "; fi", ";; esac", '")"', "\neval {a}")


#: Texts that are accepted, and what is put into them at random.
PLAIN: Final = (
    "sort --reverse {a} 2>/dev/null | cat > f", "cat {a} && cat {b} || echo; exit 1", "for x in {a}; do echo $x; done",
    "while read -r x; do echo \"$x\" {a}; done < f", "if ! grep -q '^x$' {a}; then echo {b} >&2; fi", "x=1 A=2 env {a}",
    "( cat {a} ) | (sort {b}); cat {a}&& ls {b}", "echo $(cat {a}; cat {b}) > f\necho {a}", "cat <(cat {a}) x; cat {b}",
    "set -x\nexport A=1\nread -r x <<< {a}; echo \"${x}$(date +%F)\" # it's\n{ echo x; } > {b}",
    "printf '%s\\n' {a} | {b}",
    "sort \\\n  --output=o{a} \\\n  {b} & wait", "until true; do {a}; done; echo {b}", "cat <<< {a}; printf x {b}",
)  # fmt: skip
PUT: Final = (
    *" \t\n;&|()<>{}[]$`'\"\\#!=~*-.:x2", "eval", "read ", "(", ")", "$(", "((", "))", "[[ ", " ]]", "[ ", " ]", "x=",
    "RANDOM=", "<<", "<<f\n", "\nf\n", "\\\n", "$x", "${x", "$'", "case x in x) ", ";;", "f() { ", "; }",
    "declare -i x;", "do ", "then ", "alias x=eval\n", "printf -v ", "trap ", "time ", "\n: {a}\n", "{a}", "{b}", ">&",
    "&>", "test -v ", "let ", "$[", "in ",
)  # fmt: skip


@pytest.fixture(params=["bash", "dash"])
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shell that runs the commands."""
    if shutil.which(request.param) is None:
        pytest.skip(f"There is no {request.param}.")
    found = {"bash": ("bash", "-euo", "pipefail"), "dash": ("dash", "-eu")}[request.param]
    found = ("timeout", "5", *found)  # a random command may be a loop without end
    monkeypatch.setattr(module, "_found", lambda: found)
    return str(request.param)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def has_run(text: str, values: dict[str, Any]) -> bool | None:
    """Returns whether the shell ran a part of the values; None where the command is refused."""
    try:
        step = shell(text, name="step", timeout=20)
    except InvalidAction:
        return None
    try:
        step(**{name: values.get(name, values["a"]) for name in step.named_params})
    except (CommandFailed, InvalidArgument, OSError):
        pass
    return Path("ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        'trap "cd /; rm -rf {a}" EXIT', 'trap "{a}" EXIT', "trap {a} EXIT", "2>/dev/null eval {a}", 'echo "$[{a}+1]"',
        "read -r {a} < /etc/passwd", "printf {a} {b}", "[ {a} {b} ]", "[ {c} ]", "test {c}", "{c}", "x=1 eval {a}",
        "exec {c}", "for x do eval {a}; done", "sort $(case x in x) eval {a};; esac)", "RANDOM={a}", "unset {a}",
        "set -x; PS4={a}; echo", "e\\\nval {a}", "f() { eval {a}; }; f", "eval $(echo {a})", "$(echo {a})",
        "wait -n -p {a}", "printf -v {a} x", "echo >&{a}", 'echo >&2"{a}"', "SECONDS= $(echo {a}) {b}",
        "RANDOM= $(echo {a}) {b}", "x=eval; x=1 $x {a}", ">f $(echo eval) {a}", "x=eval; 2>/dev/null $x {a}",
        "x=(1 2) eval {a}", "{{fd}}>f eval {a}", "x=eval; f() $x {a}; f", "true &>f {a}", "printf >f -v {a} x",
        "x=$(true) eval {a}", "for RANDOM in {a}; do :; done", "f() { RANDOM=$1; }; f {a}", "read RANDOM <<< {a}",
        "printf $(echo {a}) x", "printf '-v' {a} x", "echo $((0 ? 1\n: {a}\n))", "eval \\\n: {a}", "<<< x eval {a}",
        "alias e=eval\ne {a}", "set -k\nsort RANDOM={a}", "(true)#'\nalias e=eval #'\ne {a}", "echo x <> f & >f {a}",
    ],
)  # fmt: skip
def test_what_once_ran_a_value_runs_none(text: str, which: str) -> None:
    """Refused, or the value is data."""
    for value in RUNS:
        for other in ("a[$(>ran)]", ">ran", "x"):
            for several in LISTS if "{c}" in text else LISTS[:1]:
                assert not has_run(text, {"a": value, "b": other, "c": several}), (text, value, other)
                if has_run(text, {"a": value, "b": other, "c": several}) is None:
                    return


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.timeout(3600)  # of as many rounds as DOTFLOW_FUZZ_ROUNDS asks for
@pytest.mark.parametrize("kind", ["from parts", "from plain ones"])
def test_random_commands_run_no_value(kind: str, which: str) -> None:
    """The values stand in random texts, many of them no valid commands: what is accepted runs nothing of them."""
    seed = int(os.environ.get("DOTFLOW_FUZZ_SEED", "39"))
    pick = random.Random(f"{seed} {which} {kind}")
    rounds = int(os.environ.get("DOTFLOW_FUZZ_ROUNDS", "3000"))
    accepted = 0
    for number in range(rounds):
        text = put_together(pick, number % 2) if kind == "from parts" else changed(pick)
        values = {name: pick.choice(LISTS) if pick.random() < 0.2 else pick.choice(RUNS) for name in "ab"}
        ran = has_run(text, values)
        assert not ran, f"seed {seed}: {text!r} with {values!r}"
        accepted += ran is not None
    assert accepted > rounds / 40, accepted


def put_together(pick: random.Random, is_short: int) -> str:
    """Returns a random command. Shorter ones are refused less often."""
    parts = [pick.choice(kind) for kind in (PREFIXES, PREFIXES, COMMANDS, ARGUMENTS, ARGUMENTS[:4], SUFFIXES)]
    if is_short:
        parts = [part if index in (2, 3) or pick.random() < 0.3 else "" for index, part in enumerate(parts)]
    return "".join(parts).replace("{{", "{").replace("}}", "}")


def changed(pick: random.Random) -> str:
    """Returns a plain command, or two, with some texts more or less."""
    text = pick.choice(PLAIN) + pick.choice(["", "; ", "\n", " "]) + pick.choice(["", *PLAIN])
    for _ in range(pick.randrange(1, 4)):
        at = pick.randrange(len(text) + 1)
        text = text[:at] + pick.choice(["", *PUT]) + text[at + pick.choice([0, 0, 0, 1, 2]) :]
    return text
