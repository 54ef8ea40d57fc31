"""Failure: an exception as text, which outlives the exception and can be pickled."""

import gc
import pickle
import sys
import traceback
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from dotflow import action
from dotflow.core.failure import Failure, TaskError, name_of
from dotflow.core.masks import Masks

Raised = Callable[..., BaseException]


def simple() -> None:
    raise ValueError("a plain one")


def without_words() -> None:
    raise KeyError


def several_lines() -> None:
    raise ValueError("first\nsecond\n  third")


def caused() -> None:
    try:
        simple()
    except ValueError as error:
        raise RuntimeError("on top") from error


def during() -> None:
    try:
        simple()
    except ValueError:
        {}["missing"]


def from_none() -> None:
    try:
        simple()
    except ValueError:
        raise RuntimeError("alone") from None


def three_deep() -> None:
    try:
        caused()
    except RuntimeError:
        raise TypeError("third")  # noqa: B904


def noted() -> None:
    error = ValueError("noted")
    error.add_note("a note")
    error.add_note("two\nlines")
    raise error


def grouped() -> None:
    errors = []
    for function in (simple, during):
        try:
            function()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several", errors)


def misspelt() -> None:
    lenght = 5
    print(lenght)
    length  # noqa: B018, F821


def no_attribute() -> None:
    "text".uper()


def bad_import() -> None:
    from math import squareroot  # noqa: F401


def bad_syntax() -> None:
    compile("a = (1,\nb = 2", "<my text>", "exec")


def recursive(depth: int = 20) -> None:
    if not depth:
        raise ValueError("deep down")
    recursive(depth - 1)


def exits() -> None:
    raise SystemExit(3)


def circle() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


class Mine(Exception):
    """With a name of its own."""


def my_own() -> None:
    raise Mine("mine")


ALL = [
    simple,
    without_words,
    several_lines,
    caused,
    during,
    from_none,
    three_deep,
    noted,
    grouped,
    misspelt,
    no_attribute,
    bad_import,
    bad_syntax,
    recursive,
    exits,
    circle,
    my_own,
]


@pytest.mark.parametrize("function", ALL)
def test_the_traceback_is_the_one_that_python_prints(raised: Raised, function: Callable[[], None]) -> None:
    """Frames, carets, chain, notes, groups and suggestions: the text is Python's own, to the letter."""
    error = raised(function)

    assert Failure.of(error).traceback == "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("function", "exception", "message"),
    [
        (simple, "ValueError", "a plain one"),
        (without_words, "KeyError", ""),
        (exits, "SystemExit", "3"),
        (my_own, "Mine", "mine"),
        (grouped, "ExceptionGroup", "several (2 sub-exceptions)"),
    ],
)
def test_has_type_and_message(raised: Raised, function: Callable[[], None], exception: str, message: str) -> None:
    """The type's bare name and the exception's message."""
    failure = Failure.of(raised(function))

    assert (failure.exception, failure.message) == (exception, message)


@pytest.mark.parametrize(
    ("function", "suggestion"),
    [(misspelt, "'lenght'"), (no_attribute, "'upper'")],
)
def test_keeps_suggestions(raised: Raised, function: Callable[[], None], suggestion: str) -> None:
    """Python's 'Did you mean' is made from the frames, so it is formatted while these exist."""
    text = Failure.of(raised(function)).traceback

    # Python 3.11 makes suggestions only where it prints an exception itself, not in the text that it returns.
    assert f"Did you mean: {suggestion}?" in text or sys.version_info < (3, 12)


def through_dotflow(function: Callable[[], None]) -> Callable[[], None]:
    """Calls it through a frame of dotflow itself."""
    step = action(function)
    return lambda: step()


def caused_by_dotflow() -> None:
    try:
        action(retry=0)
    except ValueError as error:
        raise NameError("mine") from error


def grouped_through_dotflow() -> None:
    try:
        through_dotflow(simple)()
    except ValueError as error:
        raise ExceptionGroup("several", [error]) from None


@pytest.mark.parametrize(
    "function",
    [
        *(through_dotflow(function) for function in (simple, during, noted, misspelt, grouped, bad_import)),
        caused_by_dotflow,
        grouped_through_dotflow,
    ],
)
def test_shows_the_users_frames_only(raised: Raised, function: Callable[[], None]) -> None:
    """Neither the chain nor the members of a group show dotflow's own lines."""
    text = Failure.of(raised(function)).traceback

    assert "core/action.py" not in text
    assert "core/policy.py" not in text
    assert __file__ in text


def test_may_have_another_name(raised: Raised) -> None:
    """A timeout is a TimeoutError, and not the exception that ended the step."""
    failure = Failure.of(raised(simple), name="TimeoutError", message="too late")

    assert (failure.exception, failure.message) == ("TimeoutError", "too late")
    assert "in simple" in failure.traceback


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Wordless(Exception):
    def __str__(self) -> str:
        return 5


@pytest.mark.parametrize("error", [Mute(), Wordless()])
def test_a_message_that_cannot_be_read(raised: Raised, error: BaseException) -> None:
    """An exception whose __str__ raises is reported as one, and breaks nothing."""

    def fails() -> None:
        raise error

    failure = Failure.of(raised(fails))

    assert failure.exception == type(error).__name__
    assert "could not be read" in failure.message
    assert "in fails" in failure.traceback


class BadNote:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "notes", [None, 5, [BadNote()], [1, None], "text", ()], ids=["None", "5", "bad", "mixed", "str", "()"]
)
def test_odd_notes(raised: Raised, notes: Any) -> None:
    """Users may set __notes__ to anything: it never breaks the text."""
    error = ValueError("noted")
    error.__notes__ = notes

    def fails() -> None:
        raise error

    assert "ValueError: noted" in Failure.of(raised(fails)).traceback


def test_an_exception_that_was_never_raised() -> None:
    """It has a last line and no frames."""
    assert Failure.of(ValueError("unraised")).traceback == "ValueError: unraised\n"


@pytest.mark.parametrize("function", ALL)
def test_survives_pickling(raised: Raised, function: Callable[[], None]) -> None:
    """It is unpickled unchanged; the exception itself need not be picklable."""
    failure = Failure.of(raised(function))

    loaded = pickle.loads(pickle.dumps(failure))

    assert (loaded.exception, loaded.message, loaded.traceback) == (
        failure.exception,
        failure.message,
        failure.traceback,
    )


def test_holds_no_local_variable(raised: Raised) -> None:
    """Frames hold the local variables of a step; a failure holds none of them."""

    class Big: ...

    seen: list[weakref.ref[Big]] = []

    def fails() -> None:
        big = Big()
        seen.append(weakref.ref(big))
        raise ValueError("with a big local")

    try:
        fails()
    except ValueError as error:
        failure = Failure.of(error)
    gc.collect()

    assert seen[0]() is None
    assert "with a big local" in failure.traceback


def test_the_text_stays_the_same(raised: Raised) -> None:
    """It is formatted once; a second access changes nothing."""
    failure = Failure.of(raised(caused))

    assert failure.traceback == failure.traceback
    assert failure.traceback is failure.traceback


def test_deep_recursion_is_cut_short(raised: Raised) -> None:
    """A thousand equal frames take one line, as in Python."""
    text = Failure.of(raised(recursive, 200)).traceback

    assert "Previous line repeated" in text
    assert len(text.splitlines()) < 40


def test_without_a_traceback() -> None:
    """What happened to a worker has a message and nothing to show."""
    failure = Failure("WorkerDied", "it was killed")

    assert failure.traceback == ""
    assert repr(failure) == "Failure(WorkerDied: it was killed)"


def test_a_task_error_is_a_failure_with_a_number(raised: Raised) -> None:
    """TaskError has attempt, exception, message and traceback, also after pickling."""
    error = TaskError(2, Failure.of(raised(simple)))

    for text in (error, pickle.loads(pickle.dumps(error))):
        assert (text.attempt, text.exception, text.message) == (2, "ValueError", "a plain one")
        assert text.traceback.startswith("Traceback (most recent call last):\n")
        assert text.traceback.endswith("ValueError: a plain one\n")
        assert repr(text) == "TaskError(attempt=2, exception='ValueError', message='a plain one')"


@pytest.mark.parametrize(
    ("kind", "name"), [(int, "int"), (ValueError, "ValueError"), (Mine, f"{__name__}.Mine"), (type(sys), "module")]
)
def test_types_are_named_as_users_write_them(kind: type, name: str) -> None:
    """Builtins by their bare name, others with their module."""
    assert name_of(kind) == name


def test_a_traceback_is_that_of_its_own_file(modules: dict[str, str]) -> None:
    """Two steps that are equal but for the file that they are in show each their own."""
    for name in ("first_of_two", "second_of_two"):
        modules[name] = "def fail():\n    raise ValueError('no')\n"
        with pytest.raises(ValueError) as caught:
            import_module(name).fail()
        assert f"<{name}>" in Failure.of(caught.value).traceback


def test_many_tracebacks_are_each_their_own() -> None:
    """The cache of formatted stacks makes no later one wrong, however many there are."""
    for number in range(600):
        code = compile("def fail():\n" + "\n" * number + "    raise ValueError\n", "<many>", "exec")
        space: dict[str, Any] = {}
        exec(code, space)
        with pytest.raises(ValueError) as caught:
            space["fail"]()
        assert f'"<many>", line {number + 2}, in fail' in Failure.of(caught.value).traceback


def test_a_masked_failure_has_no_secret_in_its_type_name() -> None:
    """A type may be created with any name. Why it was not repeated, and the chain, name it, too."""
    token = "tok-5f2c91d0a7"
    error = type(token, (ValueError,), {"__qualname__": f"Outer.{token}"})("a message")
    error.add_note(f"A note on {token}.")
    error.__cause__ = type(f"Of{token}", (KeyError,), {})()
    failure = Failure.of(error)
    failure.refusal = f"{token} is not in retry_on"
    masked = failure.masked(Masks([token]))

    assert (masked.exception, masked.message, masked.refusal) == ("***", "a message", "*** is not in retry_on")
    assert "Outer.***: a message" in masked.traceback
    assert "Of***" in masked.traceback
    assert token not in repr(masked) + masked.traceback
