"""shell(): which parameters a command has, where they may stand, and what identifies the step."""

import contextlib
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dotflow import Secret, action, shell
from dotflow.errors import InvalidAction, InvalidPolicy, UnknownArgument
from dotflow.worker.command_text import Place
from dotflow.worker.shell import Command


def places_of(text: str) -> dict[str, str]:
    """Returns how each parameter is passed: as a word, which may be a list, or as a part of one."""
    command = shell(text, name="step").function
    assert isinstance(command, Command)
    places = [piece for piece in command.pieces if isinstance(piece, Place)]
    return {place.name: "word" if place.is_word else "part" for place in places}


def text_of(text: str) -> str:
    """Returns the command, with <name> for its parameters."""
    command = shell(text, name="step").function
    assert isinstance(command, Command)
    return "".join(f"<{piece.name}>" if isinstance(piece, Place) else piece for piece in command.pieces)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("sort {rows} > sorted.csv", {"rows": "word"}),
        ("sort --output={out} {rows}", {"out": "part", "rows": "word"}),
        ("cp {a}{b}.csv build/{c}-1.txt", {"a": "part", "b": "part", "c": "part"}),
        ("echo $(cat {a}; cat {b})\necho {c}", {"a": "word", "b": "word", "c": "word"}),
        ("( cat {a} ) | (sort {b}); cat {c}&& ls {d}", {"a": "word", "b": "word", "c": "word", "d": "word"}),
        ("cat < {a} > {b} 2>>{c}", {"a": "word", "b": "word", "c": "part"}),
        ("diff <(sort {a}) x; sort {b}", {"a": "word", "b": "word"}),
        ("cat <<< {a}", {"a": "word"}),
        ("for f in {files}; do echo $f; done > {log}", {"files": "word", "log": "word"}),
        ("cat x | while IFS= read -r x; do echo \"$x\" {a}; done", {"a": "word"}),
        ("if ! grep -q \"^x$\" {a}; then exit 1; elif true; then { sort {a}; }; else wait; fi", {"a": "word"}),
        ("echo it\\'s {a} \"it's\" {b}", {"a": "word", "b": "word"}),
        ("echo x#y {a}; while read -r x; do echo $x; done < {a}", {"a": "word"}),
        ("echo 1 # it's a comment\necho {a} # $(", {"a": "word"}),
        ("set -x; export A=1 ; x=1\nA=1 B=2 sort {a}", {"a": "word"}),
        ("sort \\\n  --reverse \\\n  {a} 2>/dev/null 2>&1 & wait", {"a": "word"}),
        ("tar czf \"x-$(date +%F).tgz\" ${HOME} \"$x[1]${y:-z}${z%.*}\" *.txt {a,b} {a}", {"a": "word"}),
        ("find . -name {a} -exec echo {} \\;", {"a": "word"}),
        ("echo [{a}] {b}'c'\"d\"", {"a": "part", "b": "part"}),
        ("printf '%s\\n' {a} | {b}\nprintf x {a}; printf \"a\\n\" {a}", {"a": "word", "b": "part"}),
        (': {a} {b}\n# more\n\n : {c}\neval "$a" [[ $b ]]', {"a": "word", "b": "word", "c": "word"}),
        ("echo {größe} {N}", {"größe": "word", "N": "word"}),
    ],
)  # fmt: skip
def test_a_parameter_stands_in_a_plain_command(text: str, places: dict[str, str]) -> None:
    """Outside of quotes and comments, as an argument, a file, or a program without arguments."""
    assert places_of(text) == places


@pytest.mark.parametrize(
    "text",
    [
        "echo '{a}'",
        'echo "{a}"',
        "echo $'\\'{a}'",
        "awk '{a}' file",
        "echo 1 # {a}",
        "v={a} sort",
        "if [ -f {a} ]; then cat x; fi",
        "case {a} in x) echo;; esac",
        "y='a b' {a} {b}",
        'trap "cd /; rm -rf {a}" EXIT',
        "2>/dev/null eval {a}",
        ">x 2>&1 eval {a}",
        'echo "$[{a}+1]"',
        "read -r {a}",
        "echo `cat {a}`",
        'echo "$(cat {a})"',
        "echo $((1 + {a}))",
        "(( (1 + {a}) ))",
        "for ((i = 0; {a}; i++)); do :; done",
        '[[ "{a}" -eq 1 ]]',
        "[[ x && {a} -eq 1 ]]",
        'echo "${x:-{a}}"',
        "echo ${x:{a}}",
        "array[{a}]=1",
        "x=([{a}]=1)",
        *(
            f"{before}eval {{a}}"
            for before in (
                "! ",
                "if ",
                "x=1 ",
                "command ",
                "\\",
                "if ! x= ",
                "time -p ",
                "x=1 y='a b' ",
                "{ ",
                "a & ",
            )
        ),
        "if x; then eval {a}; fi",
        "for x do eval {a}; done",
        "function f { eval {a}; }",
        "f() { eval {a}; }",
        "case x in x) eval {a};; esac",
        "sort $(case x in x) eval {a};; esac)",
        "eval $(echo 1; echo 2) {a}",
        "SECONDS= $(echo {a}) {b}",
        "x=1 $x {a}",
        "x=(1 2) eval {a}",
        ">f $(echo eval) {a}",
        "2>/dev/null $x {a}",
        "2>f eval {a}",
        "{{fd}}>f eval {a}",
        "echo x &>f {a}",
        "printf >f -v {a} x",
        "printf 2>f -v {a} x",
        "printf '-v' {a} x",
        'printf "\\\n-v" {a} x',
        "printf $(echo {a}) x",
        "for RANDOM in {a}; do :; done",
        "for x in {a}; do RANDOM=$x; done",
        "f() { RANDOM=$1; }; f {a}",
        "f() $x {a}",
        "x=$(true) eval {a}",
        "alias e=eval\ne {a}",
        "set -k\nsort RANDOM={a}",
        "read RANDOM <<< {a}",
        "echo $((0 ? 1\n: {a}\n))",
        "eval \\\n: {a}",
        "(true)#'\nalias e=eval #'\ne {a}",
        "echo ${x:$y} {a}",
        "echo ${!x} ${x@P} {a}",
        "cat <{a}<<f",
        "$x {a}",
        "'eval' {a}",
        "{a} {b}",
        "e\\\nval {a}",
        "if \\\neval {a}; then x; fi",
        "[ ! -v {a} ]",
        "[ -v {a} ]",
        "[ {a} {b} ]",
        "[ {a} = x -o {b} = y ]",
        "[ $x = {a} ]",
        "printf -v{a} x",
        "printf {a} x",
        'printf "{b}x" {a}',
        "mapfile -C {a} < file",
        "declare -i x; x={a}",
        "x={a}; echo $((x))",
        "PS4={a}",
        "RANDOM={a}",
        "let n={a}+1",
        "if true; then declare -i n={a}; fi",
        "source {a}",
        ". {a}",
        "jobs -x {a}",
        "cat <<EOF\n{a}\nEOF",
        "echo >&{a}",
        'echo >& "{a}"',
        "echo 2>&1{a}",
        "cat <<'EOF'\n$(cat {a})\nEOF",
        "a\\\n#b '\necho {a}",
    ],
)
def test_a_parameter_where_the_shell_may_run_a_value_is_refused(text: str) -> None:
    """Bash evaluates `a[$(touch x)]` in arithmetic and as the name of a variable. The error has the words to write."""
    with pytest.raises(InvalidAction, match=r"{(a|b)} can't be replaced: .* Write \"\$(a|b)\" there, and ': \{"):
        shell(text, name="step")


def test_the_refusal_has_what_is_not_plain_and_all_parameters() -> None:
    """Those that first lines have named already are left out."""
    with pytest.raises(InvalidAction) as caught:
        shell(": {a}\nsort {b} > {a}\necho 'it is' \"{a} of {c}\" {b}", name="step")

    assert (
        "{a} can't be replaced: the command is not plain from 'echo \\'it is\\' \"{a} of {c}\" {b}' on. "
        "Write \"$a\" there, and ': {b} {a} {c}' in the first line, or {{a}} for the text."
    ) in str(caught.value)


def test_no_builtin_takes_a_value_but_those_that_evaluate_nothing() -> None:
    """What this bash has is known; other shells have some more."""
    listed = subprocess.run(["bash", "-c", "compgen -b; compgen -k"], capture_output=True, text=True, check=True).stdout
    taken = set()
    for name in {*listed.split(), "newgrp", "chdir", "nameref", "print"}:
        with contextlib.suppress(InvalidAction):
            shell(f"{name} {{a}} x", name="step")
            taken.add(name)

    assert taken - {"help"} == {":", "cd", "echo", "exit", "false", "kill", "pwd", "true", "done", "fi", "}"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("awk '{print $1}' {f}", "awk '{print $1}' <f>"),
        ("echo ${HOME} ${a} $${x} {} {1} {a b} {a,b} {if} {a.stem}", None),
        ("find . -exec echo {} \\; | { cat; }", None),
        ("echo '{{a}}' {{b}} \"{{c}}\" {d}", "echo '{a}' {b} \"{c}\" <d>"),
        ("echo \\{a} {b}", "echo \\{a} <b>"),
        ("jq '{id: .id}' <<EOF\n{{id}}\nEOF", "jq '{id: .id}' <<EOF\n{id}\nEOF"),
    ],
)
def test_all_other_braces_are_the_shells(text: str, kept: str | None) -> None:
    """Two pairs of braces around a name are the text with one."""
    assert text_of(text) == (kept or text)


def test_the_parameters_are_those_of_the_command_and_of_the_paths() -> None:
    """The step takes each once; outputs, and texts in two pairs of braces, are none."""
    step = shell(
        "convert {image} {out} {thumb}",
        name="convert",
        outputs={"out": "{folder}/{image.stem}-{size}.png", "thumb": Path("{{x}}/{image.name}")},
        env={"TOKEN": Secret("TOKEN"), "LANG": "C"},
    )

    assert list(step.named_params.items()) == [("image", True), ("folder", True), ("size", True), ("TOKEN", False)]
    assert list(step.secrets) == ["TOKEN"]
    assert (step.name, step.identity, step.__doc__) == ("convert", "shell:convert", "convert {image} {out} {thumb}")
    assert not step.is_coroutine


CHANGED: list[dict[str, Any]] = [
    {"text": "sort -r {rows} > {out}"},
    {"outputs": {"out": "other.csv"}},
    {"ok": (0, 1)},
    {"env": {"LANG": "C"}},
    {"cwd": "src"},
    {"value": None},
]


@pytest.mark.parametrize("change", CHANGED, ids=lambda change: next(iter(change)))
def test_the_version_stands_for_the_command(change: dict[str, Any]) -> None:
    """What the command is made of changes it, so `resume="changed"` and the cache see another step."""
    options: dict[str, Any] = {
        "text": "sort {rows} > {out}",
        "name": "sort",
        "outputs": {"out": "sorted.csv"},
        "value": "out",
    }
    same, changed = (shell(**{**options, "timeout": 5}), shell(**{**options, **change}))

    assert shell(**options).version == same.version != changed.version


def test_a_version_of_ones_own_counts() -> None:
    """As with @action."""
    assert shell("date", name="date", version="2").version == "2"


def test_it_takes_the_options_of_action() -> None:
    """Wrong ones are refused as there."""
    step = shell("date", name="date", retry=3, timeout="5m", isolate=True, cache=60)
    assert (step.policy.attempts, step.policy.timeout, step.isolate, step.cache) == (3, 300, True, 60)
    with pytest.raises(InvalidPolicy, match=r"@action\(retry=0\)"):
        shell("date", name="date", retry=0)
    with pytest.raises(UnknownArgument, match="shell has no argument 'retries'"):
        shell("date", name="date", retries=3)
    with pytest.raises(UnknownArgument, match=r"shell has no argument 'output'\. Did you mean 'outputs'\?"):
        shell("date > {out}", name="date", output={"out": "x"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sort rows"}, "a name is a letter"),
        ({"text": "  "}, "a command is a text"),
        ({"text": "a\0b"}, "a command is a text"),
        ({"value": "ouput"}, "value='ouput' is no output. Pass one of 'out', 'text', 'lines', 'json', 'code', or None"),
        ({"outputs": {"json": "x"}}, "an output can't be called 'json'"),
        ({"outputs": {"a b": "x"}}, "an output can't be called 'a b'"),
        ({"outputs": {"out": "x", "log": "y"}}, "does not write the output 'log'. Add {log} to it"),
        ({"ok": ()}, "are no exit codes"),
        ({"ok": ("0",)}, "are no exit codes"),
        ({"ok": 1}, "ok=1 are no exit codes"),
        ({"outputs": "x"}, "outputs='x' are no paths by name"),
        ({"outputs": {"out": 3}}, "the output 'out' is no path, but 3"),
        ({"outputs": {1: "x"}}, "an output can't be called 1"),
        ({"outputs": {"out": "{rows.stern}.txt"}}, "{rows.stern} is no part of a path. A Path has .name, .stem, "),
        ({"env": "A=1"}, "env='A=1' are no variables by name"),
        ({"env": {1: "x"}}, "a variable of env can't be called 1"),
        ({"cwd": 3}, "cwd=3 is no path of a folder"),
        ({"env": {"A-B": "x"}}, "a variable of env can't be called 'A-B'"),
        ({"env": {"A": 1}}, "the variable A is no text"),
        ({"env": {"rows": Secret("ROWS")}}, "'rows' is a variable of env. Write $rows in the command"),
    ],
)
def test_wrong_arguments_are_refused_when_the_step_is_made(options: dict[str, Any], message: str) -> None:
    """The message has the step's name, and what to write instead."""
    given: dict[str, Any] = {"text": "sort {rows} > {out}", "name": "sort", "outputs": {"out": "sorted.csv"}}

    with pytest.raises(InvalidAction) as caught:
        shell(**{**given, **options})

    assert message in str(caught.value)


def test_it_survives_pickling() -> None:
    """By value, as no module has it under its name. The default of a secret stays here."""
    step = shell("curl {f} > {out}", name="get", outputs={"out": "x"}, env={"TOKEN": Secret("TOKEN", default="s3cr")})

    pickled = pickle.dumps(step)
    loaded = pickle.loads(pickled)

    assert (loaded.identity, loaded.version, loaded.named_params) == (step.identity, step.version, step.named_params)
    assert b"s3cr" not in pickled


def test_it_can_be_no_step_of_another_action() -> None:
    """It has all options of @action itself."""
    with pytest.raises(TypeError, match="'date', which is an action already"):
        action(shell("date", name="date"))
