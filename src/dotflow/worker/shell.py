"""shell: a command as a step. Values reach it as variables and arguments of the shell, never as text of the command."""

import codecs
import contextlib
import datetime
import errno
import functools
import hashlib
import inspect
import json
import keyword
import os
import re
import selectors
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from numbers import Integral
from pathlib import Path, PurePath
from typing import IO, Any, Final, NoReturn

from dotflow.core.action import AnyAction
from dotflow.core.decorator import action
from dotflow.core.failure import name_of
from dotflow.core.hints import ACTION, refuse_unknown
from dotflow.core.masks import Masks, hidden, secret_variables
from dotflow.core.secret import SecretRef
from dotflow.core.text import shorten
from dotflow.errors import CommandFailed, InvalidAction, InvalidArgument
from dotflow.worker import programs
from dotflow.worker.atomic_path import atomic_path
from dotflow.worker.command_text import ESCAPED, Place, pieces_of, variable_of
from dotflow.worker.interrupts import interrupts_held

STDOUT: Final = ("text", "lines", "json")  # the values that are made of it
CODE: Final = "code"
KINDS: Final = (*STDOUT, CODE)  # of values, beside the outputs
ACCEPTED: Final = "a text, a number, a date, a Path, or a list of these"
LAST_LINES: Final = 20  # of stderr, in the error
MAX_TAIL: Final = 20_000  # bytes of them
MAX_SHOWN: Final = 2_000  # characters of the command, in the error
MAX_WORDS: Final = 10  # of a list, there
MAX_SCRIPT: Final = 100_000  # bytes of one argument: Linux takes 131,072 (MAX_ARG_STRLEN)
PATIENCE: Final = 0.5  # seconds of one wait: a thread is interrupted only between two lines
TOO_LONG: Final = (
    "A system takes about 2 MB of arguments, and 128 KB for one. Write the values to a file, and pass its path."
)

PARTS: Final = ("name", "stem", "suffix", "parent")  # of a Path, in the path of an output
FIELD: Final = re.compile(r"\{([^\W\d]\w*)(?:\.(\w+))?\}")


def shell(
    text: str,
    *,
    name: str,
    outputs: Mapping[str, str | Path] | None = None,
    value: str | None = None,
    ok: Sequence[int] = (0,),
    env: Mapping[str, Any] | None = None,
    cwd: str | Path | None = None,
    **options: Any,
) -> AnyAction:
    """Makes a step of a shell command: `shell("sort {rows} > {out}", name="sort", outputs={"out": "sorted.csv"})`.

    Each `{name}` is a parameter of the step. Its value reaches the command as the variable `name`, a list as an array,
    and `{name}` is the reference `"$name"` to it, with one word for each element of a list. In a command that is not
    plain, the parameter is refused: write `"$name"` there, and `: {name}` in the first line. The shell runs nothing of
    a value; a variable that the command itself evaluates is code, and so are the arguments of programs that run them,
    such as `sh -c` or `ssh`. `{{name}}` is the text `{name}`, and all other braces are the shell's.

    The command runs in bash with `-euo pipefail`, or, without bash, in `sh -eu`. What it writes to stderr is the step's
    output, and so is what it writes to stdout, unless that is the value. Its stdin is empty. A timeout ends it with all
    programs that it has started.

    Args:
        text: The command. A parameter is an argument or a file in it, outside of quotes.
        name: The name of the step.
        outputs: The files that the command writes, by the name that they have in it. A path may have parameters, such
            as `build/{rows.stem}.txt`; of a Path also its `.name`, `.stem`, `.suffix` and `.parent`. Missing folders
            are made, and each file is there as a whole or not at all, as with `atomic_path`.
        value: What the step returns: the Path of the output of that name; "text", "lines" or "json" for stdout, without
            the newlines at its end; "code" for the exit code, whatever it is; None for nothing.
        ok: The exit codes of a success.
        env: Variables beside those of this process. A secret goes here: `env={"TOKEN": Secret("TOKEN")}`.
        cwd: The folder in which the command runs. Paths name the same files there.
        options: The options of `@action`, such as `retry` and `timeout`.

    Returns:
        The step.

    Raises:
        InvalidAction: An argument is wrong, a parameter stands in a command that is not plain, or there is no shell.
        InvalidPolicy: An option of `@action` is invalid.
        UnknownArgument: There is no such option.
    """
    known = action.__kwdefaults__ or {}
    unknown = {option: given for option, given in options.items() if option not in known}
    refuse_unknown("shell", unknown, (*(shell.__kwdefaults__ or ()), *known), ACTION)
    command = Command(text, name, outputs or {}, value, ok, env or {}, cwd)
    facts = (text, command.outputs, value, command.ok, sorted(env or {}), command.cwd)
    options.setdefault("version", hashlib.sha256(repr(facts).encode(errors="surrogatepass")).hexdigest()[:16])
    step: AnyAction = action(**options)(command)
    return step


class Command:
    """A command with its parameters, which is called as a function of them. The arguments are those of `shell`."""

    def __init__(
        self,
        text: str,
        name: str,
        outputs: Mapping[str, str | Path],
        value: str | None,
        ok: Sequence[int],
        env: Mapping[str, Any],
        cwd: str | Path | None,
    ) -> None:
        self.name = name
        self._check_types(outputs, ok, env, cwd)
        self.outputs = {output: os.fspath(path) for output, path in outputs.items()}
        self.value = value
        self.ok = tuple(ok)
        self.cwd = None if cwd is None else os.fspath(cwd)
        self._check(text, env)
        self._secrets = {variable: value for variable, value in env.items() if type(value) is SecretRef}
        self.variables = {variable: text for variable, text in env.items() if variable not in self._secrets}
        self.pieces = pieces_of(text, self._refuse)
        places = [piece.name for piece in self.pieces if isinstance(piece, Place)]
        for output in self.outputs:
            if output not in places:
                self._refuse(f"the command does not write the output '{output}'. Add {{{output}}} to it")
        fields = [field for path in self.outputs.values() for field in FIELD.findall(ESCAPED.sub("", path))]
        for field, part in fields:
            if part and part not in PARTS:
                has = ", ".join(f".{known}" for known in PARTS)
                self._refuse(f"{{{field}.{part}}} is no part of a path. A Path has {has}")
        names = dict.fromkeys(name for name in (*places, *(field for field, _ in fields)) if name not in self.outputs)
        if twice := sorted(names.keys() & env):
            self._refuse(f"'{twice[0]}' is a variable of env. Write ${twice[0]} in the command")
        by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature(
            [
                *(inspect.Parameter(name, by_name) for name in names),
                *(inspect.Parameter(k, by_name, default=v) for k, v in self._secrets.items()),
            ]
        )
        self.__module__ = "shell"
        self.__name__ = self.__qualname__ = name
        self.__doc__ = text
        find_shell(name)

    def _check_types(self, outputs: object, ok: object, env: object, cwd: object) -> None:
        if not isinstance(outputs, Mapping):
            self._refuse(f"outputs={outputs!r} are no paths by name. Pass a dict, such as outputs={{'out': 'out.csv'}}")
        for output, path in outputs.items():
            if not isinstance(path, str | os.PathLike):
                self._refuse(f"the output {output!r} is no path, but {path!r}. Pass a text or a Path")
        if not isinstance(ok, Collection) or not ok or any(type(code) is not int for code in ok):
            self._refuse(f"ok={ok!r} are no exit codes. Pass numbers, such as ok=(0, 1)")
        if not isinstance(env, Mapping):
            self._refuse(f"env={env!r} are no variables by name. Pass a dict, such as env={{'LANG': 'C'}}")
        if cwd is not None and not isinstance(cwd, str | os.PathLike):
            self._refuse(f"cwd={cwd!r} is no path of a folder. Pass a text or a Path")

    def _check(self, text: str, env: Mapping[str, Any]) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            self._refuse("a name is a letter, then letters, digits and _")
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            self._refuse("a command is a text. Write it as in a shell")
        known = (*self.outputs, *KINDS)
        if self.value is not None and self.value not in known:
            self._refuse(f"value={self.value!r} is no output. Pass one of {', '.join(map(repr, known))}, or None")
        if self.value == CODE and self.outputs:
            self._refuse("value='code' has no outputs, which a command may have left half-written. Pass ok=(0, 1)")
        if self.value == CODE and self.ok != (0,):
            self._refuse("value='code' returns every exit code. Remove ok")
        for output in self.outputs:
            if not _is_name(output) or output in KINDS:
                self._refuse(f"an output can't be called {output!r}. Use letters, digits and _")
        for variable, value in env.items():
            if not _is_name(variable) or not variable.isascii():
                self._refuse(f"a variable of env can't be called {variable!r}. Use letters, digits and _")
            if type(value) is not SecretRef and (not isinstance(value, str) or "\0" in value):
                self._refuse(f"the variable {variable} is no text. Pass a str, or a Secret")

    def _refuse(self, reason: str) -> NoReturn:
        raise InvalidAction(self.name, reason)

    def refuse_secret(self, parameter: str) -> NoReturn:
        """Raises InvalidAction for a run parameter that is a secret: all users can see the arguments of a program."""
        self._refuse(
            f"'{parameter}' is a secret, which all users of the computer would see among the command's arguments. Pass "
            f"it as env={{'TOKEN': Secret(...)}}, and write $TOKEN"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self.__signature__.bind(*args, **kwargs).arguments
        values = {name: value for name, value in given.items() if name not in self._secrets}
        secrets = {name: value for name, value in given.items() if name in self._secrets}
        targets = {output: Path(self._fill(path, values)) for output, path in self.outputs.items()}
        with contextlib.ExitStack() as blocks:
            written = {output: blocks.enter_context(atomic_path(target)) for output, target in targets.items()}
            words = {name: self._words(name, value) for name, value in {**values, **written}.items()}
            shell = find_shell(self.name)
            single = {variable_of(name): word for name, word in words.items() if isinstance(word, str)}
            arguments, script = self._script(words, has_arrays="pipefail" in shell)
            code, out, tail = self._run(shell, script, arguments, {**os.environ, **self.variables, **single, **secrets})
            if code not in self.ok and not (self.value == CODE and code >= 0):  # a signal has no exit code
                masks = Masks([*secrets.values(), *secret_variables(), *hidden])
                shown = masks.mask(self._shown({**words, **{name: str(target) for name, target in targets.items()}}))
                raise CommandFailed(self.name, code, shorten(shown, MAX_SHOWN), masks.mask(tail))
            value: Any = code if self.value == CODE else _value_of(self.value, out)
            if self.value is not None and self.value in targets:
                value = targets[self.value]
            for output, path in written.items():  # before the first of them is published
                if not path.exists():
                    raise FileNotFoundError(errno.ENOENT, f"the command wrote no {{{output}}}", str(targets[output]))
        return value

    # Values

    def _fill(self, path: str, values: Mapping[str, Any]) -> str:
        """Returns the path of an output, with the values of its parameters."""

        def fill(match: re.Match[str]) -> str:
            name, part = match.groups()
            value = values[name]
            if isinstance(value, PurePath):
                return str(getattr(value, part) if part else value)
            text = _text_of(value)
            if part or text is None or "/" in text or "\0" in text or text in ("", ".", ".."):
                accepted = "a Path" if part else "a Path, or a text, a number or a date that is one part of a path"
                raise InvalidArgument(name, _shown_type(value), accepted, f"It is in the path of an output: {path}")
            return text

        pieces = ESCAPED.split(path)  # every second one was in two pairs of braces
        return "".join(piece if index % 2 else FIELD.sub(fill, piece) for index, piece in enumerate(pieces))

    def _words(self, name: str, value: object) -> str | list[str]:
        """Returns the argument for a value, or those for the elements of a list. Raises InvalidArgument."""
        if isinstance(value, list | tuple):
            return [self._word(name, element) for element in value]
        return self._word(name, value)

    def _word(self, name: str, value: object) -> str:
        text = str(value) if isinstance(value, PurePath) else _text_of(value)
        encoded = b"\0"
        with contextlib.suppress(UnicodeEncodeError):
            encoded = os.fsencode(text or "")
        if text is None or b"\0" in encoded:
            cause = " with a null byte or a lone surrogate" if isinstance(value, str | PurePath) else ""
            shown = None if value is None else f"{_shown_type(value)}{cause}"
            raise InvalidArgument(name, shown, ACCEPTED, f"It is an argument of the command '{self.name}'.")
        if not isinstance(value, PurePath):
            return text
        return os.path.abspath(text) if self.cwd is not None else f"./{text}" if text.startswith("-") else text  # noqa: PTH100

    # The command

    def _script(self, words: Mapping[str, str | list[str]], *, has_arrays: bool) -> tuple[list[str], str]:
        """Returns the elements of all lists, which are the arguments, and the text that the shell runs."""
        arguments: list[str] = []
        references: dict[str, str] = {}
        arrays = ""
        for name, word in words.items():
            if isinstance(word, list):
                first, variable = len(arguments) + 1, variable_of(name)
                arguments += word
                references[name] = " ".join([f'"${{{number}}}"' for number in range(first, len(arguments) + 1)])
                if has_arrays:
                    arrays += f'{variable}=("${{@:{first}:{len(word)}}}"); '
                    references[name] = f'${{{variable}[@]+"${{{variable}[@]}}"}}'  # without an error for an empty one

        def insert(place: Place) -> str:
            word = words[place.name]
            if isinstance(word, str):
                return f'"${{{variable_of(place.name)}}}"'
            if not place.is_word:
                accepted = f"a single value, or write {{{place.name}}} as a word of its own"
                raise InvalidArgument(place.name, f"a list of {len(word)}", accepted)
            return references[place.name]

        return arguments, arrays + self._text(insert)

    def _shown(self, words: Mapping[str, str | list[str]]) -> str:
        """Returns the command as a person would write it."""

        def show(place: Place) -> str:
            word = words[place.name]
            shown = [word] if isinstance(word, str) else word[:MAX_WORDS]
            more = len(word) - MAX_WORDS if isinstance(word, list) else 0
            return shlex.join(shown) + (f" ... and {more} more" if more > 0 else "")

        return self._text(show).strip()

    def _text(self, insert: Callable[[Place], str]) -> str:
        return "".join([insert(piece) if isinstance(piece, Place) else piece for piece in self.pieces])

    def _run(
        self, shell: Sequence[str], script: str, arguments: Sequence[str], env: Mapping[str, str]
    ) -> tuple[int, bytes, str]:
        """Returns the exit code, what was written to stdout if that is the value, and the last lines of stderr."""
        captured = bytearray() if self.value in STDOUT else None
        tail = bytearray()

        def keep(data: bytes) -> None:
            tail.extend(data)
            del tail[:-MAX_TAIL]

        with contextlib.ExitStack() as ends:
            argv = [*shell, "-c", script, self.name, *arguments]
            files: tuple[int, ...] = ()
            if len(os.fsencode(script)) > MAX_SCRIPT:
                file = ends.enter_context(tempfile.TemporaryFile())
                file.write(os.fsencode(script))
                file.seek(0)
                files = (file.fileno(),)
                argv[-len(arguments) - 3 :] = [f"/dev/fd/{files[0]}", *arguments]
            group = None if programs.is_worker() else 0
            started = programs.ThreadPrograms()
            process = None
            try:
                process = ends.enter_context(_start(argv, env, self.cwd, group, files))
                assert process.stdout is not None
                assert process.stderr is not None
                _read_all(
                    {
                        process.stdout: Relay(sys.stdout).write if captured is None else captured.extend,
                        process.stderr: Relay(sys.stderr, keep).write,
                    }
                )
                code = process.wait()
            except BaseException:  # a timeout, Ctrl-C, or what the step's own streams raise
                with interrupts_held():  # a deadline raises again
                    programs.kill(started.freeze())
                    if process is not None and process.returncode is None:
                        orphans = [] if group == 0 else programs.members_since(process.pid)
                        programs.kill([process.pid, *orphans])
                raise
        lines = tail.decode(errors="replace").splitlines()[len(tail) == MAX_TAIL :]  # the first may be half of one
        return code, bytes(captured or b""), "\n".join(lines[-LAST_LINES:])


def _start(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None, group: int | None, files: tuple[int, ...]
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            process_group=group,
            pass_fds=files,
        )
    except OSError as error:
        if error.errno == errno.E2BIG:
            error.add_note(TOO_LONG)
        raise


def _read_all(sinks: Mapping[IO[bytes], Callable[[bytes], object]]) -> None:
    """Passes on what comes from pipes, until all of them are closed."""
    with selectors.DefaultSelector() as selector:
        for pipe, sink in sinks.items():
            selector.register(pipe, selectors.EVENT_READ, sink)
        while selector.get_map():
            for key, _ in selector.select(PATIENCE):
                data = os.read(key.fd, 65_536)
                key.data(data)
                if not data:
                    selector.unregister(key.fileobj)


class Relay:
    """Writes what a command writes to a stream of the step, so that it counts as the step's output.

    Args:
        stream: The stream; None where there is none.
        keep: Is given the data, too.
    """

    def __init__(self, stream: Any, keep: Callable[[bytes], object] = len) -> None:
        self._stream = stream
        self._keep = keep
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        """Writes a piece; an empty one is the end."""
        self._keep(data)
        text = self._decoder.decode(data, final=not data)
        if self._stream is not None and text:
            self._stream.write(text)
            self._stream.flush()


@functools.cache
def _found() -> tuple[str, ...]:
    if (bash := shutil.which("bash")) is not None:
        return bash, "-euo", "pipefail"
    if (sh := shutil.which("sh")) is None:
        return ()
    import logging  # here, since nearly all systems have bash

    logging.getLogger("dotflow").warning(
        "There is no bash, so commands run in %s, where only the last program of a pipeline can fail. Install bash.", sh
    )
    return sh, "-eu"


def find_shell(name: str) -> tuple[str, ...]:
    """Returns the shell and its options. Raises InvalidAction where there is none."""
    if not _found():
        raise InvalidAction(name, "there is neither bash nor sh. Install bash, or write a function")
    return _found()


def _is_name(text: object) -> bool:
    return isinstance(text, str) and text.isidentifier() and not keyword.iskeyword(text)


def _text_of(value: object) -> str | None:
    """Returns the text of a text, a number or a date; None for others, such as True, whose text could be `true`."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else None


def _shown_type(value: object) -> str | None:
    return None if value is None else f"a {name_of(type(value))}"


def _value_of(kind: str | None, out: bytes) -> Any:
    """Returns what the step returns of the command's stdout."""
    if kind is None:
        return None
    if kind == "json":
        return json.loads(out)
    text = out.decode().rstrip("\n")
    if kind == "text":
        return text
    return text.split("\n") if text else []
