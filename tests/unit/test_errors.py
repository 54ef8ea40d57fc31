"""Every error: one tree, sentences that help, and a way through pickle."""

import ast
import pickle
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from dotflow import errors, providers
from dotflow.errors import (
    AlreadyScheduled,
    AmbiguousTask,
    ApprovalExpired,
    ArgumentChanged,
    AttemptError,
    BudgetExceeded,
    CallRefused,
    CallsNotKept,
    CheckpointMismatch,
    CheckpointUnreadable,
    ClusterError,
    ClusterLost,
    CommandFailed,
    DefinitionError,
    DotflowError,
    EventLoopBlocked,
    HistoryError,
    InvalidAction,
    InvalidArgument,
    InvalidCallback,
    InvalidLink,
    InvalidPath,
    InvalidPolicy,
    InvalidProvider,
    InvalidSchedule,
    InvalidStep,
    ItemsFailed,
    LeaseLost,
    LimitTooSmall,
    MemoryExceeded,
    MissingExtra,
    MissingParam,
    ModuleNotOnWorker,
    NoSchedule,
    NotAList,
    NotifyError,
    NotInHistory,
    NotPicklable,
    NotReached,
    NotRun,
    NotServable,
    NotYet,
    OrderRefused,
    PollTimeout,
    ProcessesUnsupported,
    ProviderError,
    Rejected,
    ResourcesNotOffered,
    RunError,
    RunFailed,
    RunStopped,
    RunTimeout,
    SecretChanged,
    SecretMissing,
    StepFailed,
    StepTimeout,
    StorageError,
    Throttled,
    UnequalLists,
    UnknownArgument,
    UnknownParam,
    UnknownParameter,
    UnknownTask,
    ValidityUnknown,
    ValueNotStorable,
    VirtualClockMisuse,
    WorkerDied,
    WorkerNotStarted,
    WorkflowBusy,
    WrongOutputs,
)

BRANCHES = (DotflowError, DefinitionError, AttemptError, ProviderError, RunError)

#: A task that failed, as a pickled RunFailed keeps it.
FAILED = SimpleNamespace(
    task_id=1,
    name="load",
    group_name="default",
    status="Failed",
    attempt=1,
    errors=[],
    error=SimpleNamespace(exception="ValueError", message="no rows\nat all", traceback=""),
)

#: Each error, and parts of its message: what came, what is accepted, what to do.
EXAMPLES: list[tuple[DotflowError, list[str]]] = [
    (InvalidStep("5 (int)", "Write a function."), ["5 (int)", "an action, a list of actions", "Write a function."]),
    (InvalidPath("a.b", "there is no module 'a'.", "Is it installed?"), ["'a.b'", "no module 'a'", "Is it installed?"]),
    (InvalidPath("a.b", "importing 'a' raised KeyError: 1."), ["'a.b'", "KeyError: 1."]),
    (
        UnknownParameter("load", "rows", "Rename it."),
        ["'load'", "'rows'", "no earlier task or run parameter has its name", "Rename it."],
    ),
    (UnknownTask("ordres", ("orders", "day")), ["No task", "before this one", "'ordres'", "Did you mean 'orders'?"]),
    (UnknownTask("orders"), ["No task", "'orders'.", "Add 'orders' first."]),
    (AmbiguousTask("load", (1, 4)), ["'load'", "tasks 1 and 4", "add(step, name=...)"]),
    (InvalidLink("max_parallel has no each. Write each=..."), ["max_parallel has no each. Write each=..."]),
    (UnknownParam("dya", ("day", "limit")), ["'dya'", "Did you mean 'day'?"]),
    (UnknownParam("day"), ["'day'", "DotFlow(params={...})"]),
    (MissingParam(("day", "hour")), ["'day' and 'hour'", "Pass params={'day': ...}"]),
    (
        SecretMissing((("sync", "token", "API_TOKEN"), ("load", "password", "DB_PASSWORD"))),
        ["API_TOKEN for 'token' of step 'sync', DB_PASSWORD for 'password' of step 'load'", "Config(secrets=...)"],
    ),
    (SecretMissing((("", "token", "API_TOKEN"),)), ["missing: API_TOKEN for the run parameter 'token'. Set"]),
    (
        SecretChanged("token", "API_TOKEN"),
        ["can't go on: 'token' was given as a parameter", "Set API_TOKEN to the value"],
    ),
    (
        ResourcesNotOffered((("train", {"GPU": 1}), ("test", {"disk": 2})), "gpu", "ExecutorOwn"),
        [
            "step 'train' needs {'GPU': 1}, step 'test' needs {'disk': 2}, and this machine offers gpu. ",
            "If ExecutorOwn",
        ],
    ),
    (MissingParam(("day",), "added workflow"), ["added workflow needs 'day'", "needs={'day': ...}"]),
    (InvalidPolicy("retry", 0, "a whole number from 1"), ["@action(retry=0)", "retry is a whole number from 1."]),
    (InvalidAction("sort", "{rows} stands in a comment"), ["shell(name='sort')", "{rows} stands in a comment."]),
    (InvalidArgument("mode", "fast", "one of 'a', 'b'"), ["mode='fast'", "not accepted. Pass one of 'a', 'b'."]),
    (UnknownArgument("add", "colour", ("step", "callback")), ["add has no argument 'colour'", "step and callback."]),
    (UnknownArgument("add", "retries", ("step", "callback"), "Decorate it."), ["'retries'. Decorate it. It takes"]),
    (
        InvalidCallback("on_success", "5 (int)", "on_success(tasks=...)"),
        ["on_success is 5 (int)", "function", "on_success(tasks=...)", "dotted path", "not its result"],
    ),
    (InvalidCallback("callback", "5 (int)", "callback(task=...)", "Add a list."), ["5 (int)", "Add a list."]),
    (
        InvalidProvider("Config(log=...)", "a str", "Log", "Its class has to inherit from dotflow.abc.log.Log."),
        ["Config(log=...)", "an instance of Log", "a str", "inherit from dotflow.abc.log.Log"],
    ),
    (
        InvalidSchedule("timezone", "Mars", "there is none. Did you mean 'Europe/Paris'?"),
        ["timezone='Mars'", "there is none", "Did you mean 'Europe/Paris'?"],
    ),
    (VirtualClockMisuse("sleep() was called there. Call it here."), ["sleep() was called there", "Call it here."]),
    (NotRun(), ["no last run", "start()"]),
    (AlreadyScheduled("SchedulerCron('@daily')"), ["SchedulerCron('@daily')", "already running", "stop()"]),
    (NoSchedule(), ["no schedule", "Config(scheduler=...)", "start()"]),
    (StepTimeout("load", 1.5), ["'load'", "1.5 s"]),
    (StepTimeout("load", 2, "It was killed."), ["'load'", "2 s", "It was killed."]),
    (NotYet("3 of 5 files"), ["3 of 5 files"]),
    (Throttled("60", "openai"), ["openai has refused the step, and said '60'"]),
    (BudgetExceeded("ask", "llm", "50/run", "50"), ["llm has used 50 of 50/run. Raise budget= and resume"]),
    (BudgetExceeded("ask", "llm", "$5/day", "$4.97", "$0.20", "14:05"), ["and 'ask' needs $0.20. It fits in again at"]),
    (LimitTooSmall("ask", "llm", "9 tokens/s", "10 tokens"), ["'ask' needs 10 tokens, and llm allows 9 tokens/s"]),
    (PollTimeout("load", 7200.0, "37 times"), ["'load'", "poll_timeout of 7200 s, asked 37 times."]),
    (PollTimeout("load", 60, "once", "3 of 5"), ["asked once. 3 of 5"]),
    (CommandFailed("sort", 2, "sort a.csv"), ["'sort'", "ended with exit code 2", ": sort a.csv"]),
    (CommandFailed("sort", -signal.SIGKILL, "sort a", "no room"), ["killed by SIGKILL", "Its last output:", "no room"]),
    (CommandFailed("sort", -250, "sort a"), ["killed by signal 250", "sort a"]),
    (MemoryExceeded("load", 10**9, 1_234_500_000), ["'load' has used 1.23 GB of memory, and memory= allows 1 GB."]),
    (MemoryExceeded("load", 2, 3, 1, 2), ["of it in 1 child process, and"]),
    (WorkerDied("load", 3), ["'load'", "exit code 3"]),
    (WorkerDied("load", 0), ["'load'", "exit code 0"]),
    (WorkerDied("load", 1), ["'load'", "exit code 1", "os._exit()", "closed descriptors"]),
    (WorkerDied("load", -signal.SIGKILL), ["'load'", "SIGKILL", "memory"]),
    (WorkerDied("load", -signal.SIGSEGV), ["'load'", "SIGSEGV"]),
    (WorkerDied("load", -250), ["'load'", "signal 250"]),
    (WorkerDied("load", None), ["'load'", "for an unknown reason"]),
    (WorkerDied("load", None, "tcp://a left"), ["'load'", "tcp://a left", "out of memory"]),
    (ModuleNotOnWorker("shop.steps"), ["'shop.steps'", "Install it", "register_pickle_by_value(shop)"]),
    (
        HistoryError("history.db can't be written", "the disk is full."),
        ["history.db can't be written: the disk is full."],
    ),
    (NotInHistory("Can't find 'lod'", "it has load. Did you mean 'load'?"), ["'lod': it has load. Did", "'load'?"]),
    (ClusterError("Ray", "is no Ray", "Start it."), ["Ray", "is no Ray", "Start it."]),
    (ClusterLost("Ray", "is gone", "Wait."), ["Ray", "is gone", "Wait."]),
    (WorkerNotStarted("load", "no memory"), ["'load'", "no memory", "max_workers"]),
    (
        NotPicklable("load", "The value returned", "TypeError: a lock"),
        ["the value returned", "'load'", "TypeError: a lock", "run the step in this process"],
    ),
    (StepFailed("ValueError", "no rows"), ["ValueError: no rows"]),
    (StepFailed("KeyError", "", "Traceback: ..."), ["KeyError", "Traceback: ..."]),
    (
        RunFailed("nightly", "r1", [FAILED] * 4, 9),
        ["r1", "'nightly'", "4 of 9 tasks", "task 1 load: ValueError: no rows", "and 1 more."],
    ),
    (RunFailed("nightly", "r1", [], 3), ["r1", "'nightly'", "did not complete", "its 3 tasks"]),
    (
        RunFailed("nightly", "r1", [], 3, "the run was paused", is_paused=True),
        ["r1", "'nightly'", "is paused", "resume=True"],
    ),
    (
        RunTimeout("nightly", "r1", [], 3, "the run exceeded its timeout of 4 h"),
        ["r1", "its timeout of 4 h", "3 tasks"],
    ),
    (ApprovalExpired("load", "it was not approved within 2 d", "load"), ["'load'", "within 2 d", "rerun='load'"]),
    (Rejected("page[3].load", "ben rejected it", "page.load"), ["'page[3].load'", "ben rejected it", "'page.load'"]),
    (RunStopped("load", "the run was cancelled"), ["'load'", "the run was cancelled"]),
    (MissingExtra("StorageS3", "boto3", "aws"), ["StorageS3", "boto3", "pip install 'dotflow[aws]'"]),
    (
        NotifyError("Telegram", "it answered 401, Unauthorized", "Check the token."),
        ["Telegram", "it answered 401, Unauthorized", "Check the token."],
    ),
    (
        StorageError("StorageDefault could not be read", "OSError: disk full"),
        ["could not be read", "OSError: disk full"],
    ),
    (RunTimeout("nightly", "r1", [], 3), ["r1", "'nightly'"]),
    (NotServable("The workflow 'w' can't be served", "it has no workflow_id"), ["'w'", "no workflow_id"]),
    (OrderRefused("cancel", "4f0c9a21", "it completed 3 s ago"), ["cancel", "4f0c9a21", "completed 3 s ago"]),
    (LeaseLost("Workflow 'w' lost its lease", "process 7 took it over"), ["'w'", "process 7 took it over"]),
    (EventLoopBlocked(), ["event loop", "isolate=True"]),
    (ProcessesUnsupported("win32"), ["POSIX", "win32", "threads"]),
    (CheckpointMismatch([(0, "m:a", "m:b"), (2, "m:c", "m:d")]), ["task 0", "m:a", "m:b", "task 2", "without resume"]),
    (
        ValueNotStorable("socket.socket", "['rows'][3]['conn']", "it is open", "extract"),
        ["'extract'", "socket.socket", "['rows'][3]['conn']", "it is open", "pickle=True", "plain data"],
    ),
    (ValueNotStorable("function"), ["This value", "is a function"]),
    (NotAList("parse", "fetch", "dict"), ["'parse'", "'fetch'", "a dict", "list(d.items())", "of a dict."]),
    (
        WrongOutputs("split", ("train", "test"), "tuple", "has 3 entries"),
        ["'split'", "outputs=['train', 'test']", "has 3 entries", "Return a dict,"],
    ),
    (
        CallRefused("search", "its step has ended", "Wait for it before the step returns."),
        ["'search'", "its step has ended", "Wait for it"],
    ),
    (ArgumentChanged("collect", "rows"), ["'collect' changed its argument 'rows'", "Return the changed value"]),
    (CallsNotKept("agent", "ExecutorDask"), ["'agent' can't keep its calls", "ExecutorDask", "leave out durable"]),
    (UnequalLists("pair", {"a": 1, "b": 2}), ["'pair'", "a: 1, b: 2", "Return lists of one length."]),
    (NotReached("round", "after 1 of 8 rounds: 'round[1].good' failed"), ["'round'", "after 1 of 8 rounds"]),
    (ItemsFailed(1, 3, "[2] 'x' ValueError"), ["1 of 3 items", "[2] 'x' ValueError"]),
    (
        CheckpointUnreadable("its checksum is wrong", "out/0.json", "0 extract"),
        ["task 0 extract", "out/0.json", "its checksum is wrong", "delete it", "run the task again"],
    ),
    (CheckpointUnreadable("it is empty"), ["A checkpoint", "it is empty"]),
    (
        CheckpointUnreadable("it is empty", "out/@origin.json", is_of_journal=True),
        ["The journal of earlier runs in out/@origin.json", "it is empty", "delete it: a resume then"],
    ),
    (
        ValidityUnknown("1 load", "valid() raised OSError: closed"),
        ["1 load", "raised OSError: closed", "Nothing was run", "nothing was deleted", "Start again"],
    ),
    (
        WorkflowBusy("nightly", "out/.nightly.lock", "process 7 on host alpha", "2026-01-01T00:00:00+00:00"),
        ["'nightly'", "process 7 on host alpha", "since 2026-01-01", "out/.nightly.lock", "workflow_id"],
    ),
    (WorkflowBusy("nightly", "a lock", "another process"), ["another process (a lock)"]),
]

ALL = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, DotflowError) and error.__module__ == errors.__name__
]


def identify(example: object) -> str:
    return type(example).__name__ if isinstance(example, Exception) else ""


@pytest.mark.parametrize(("error", "words"), EXAMPLES, ids=identify)
def test_the_message_has_the_facts_and_the_way_out(error: DotflowError, words: list[str]) -> None:
    """The message has each fact of the error, and the way out."""
    message = str(error)

    assert [word for word in words if word not in message] == []
    assert message.rstrip().endswith((".", words[-1]))


@pytest.mark.parametrize(("error", "words"), EXAMPLES, ids=identify)
def test_survives_pickling(error: DotflowError, words: list[str]) -> None:
    """It is unpickled as the same class with the same message and facts."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(error, protocol))

        assert type(loaded) is type(error)
        assert str(loaded) == str(error)
        assert vars(loaded) == vars(error)


def test_there_is_an_example_of_each() -> None:
    """No error is left out of the tests above."""
    assert {type(error) for error, _ in EXAMPLES} | set(BRANCHES) == set(ALL)


def test_all_are_exported_in_order() -> None:
    """__all__ is complete and sorted."""
    assert sorted(error.__name__ for error in ALL) == sorted(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_has_its_promise_in_a_docstring(error: type[DotflowError]) -> None:
    """Its own, not that of its base."""
    assert error.__doc__
    assert error.__doc__ != error.__base__.__doc__


def drawn_tree() -> dict[str, tuple[str, str | None]]:
    """Returns for each class of the drawing in the docstring its parent, and the builtin that it also is."""
    tree: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│ ]*(?:[├└]── )?)([A-Z]\w+)(?: +\((\w+)\))?", line)
        if match is None or match[2] not in vars(errors):
            continue
        depth = len(match[1]) // 4
        path[depth:] = [match[2]]
        tree[match[2]] = (path[depth - 1] if depth else "", match[3])
    return tree


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """The drawing in the docstring has every class, under its parent, with the builtin that it also is."""
    tree = drawn_tree()

    assert set(tree) == {error.__name__ for error in ALL}
    for name, (parent, builtin) in tree.items():
        bases = getattr(errors, name).__bases__
        assert bases[0].__name__ == (parent or "Exception")
        assert [base.__name__ for base in bases[1:]] == ([builtin] if builtin else [])


@pytest.mark.parametrize("error", [error for error in ALL if issubclass(error, DefinitionError)][1:], ids=str)
def test_definition_errors_are_those_of_python_too(error: type[DefinitionError]) -> None:
    """A wrong workflow is a ValueError or a TypeError too, so that old habits catch it."""
    assert issubclass(error, ValueError | TypeError)


def test_a_timeout_is_a_timeout_error() -> None:
    """`except TimeoutError` catches it."""
    assert issubclass(StepTimeout, TimeoutError)
    assert issubclass(PollTimeout, TimeoutError)


def test_facts_are_passed_by_position_or_by_name() -> None:
    """A constructor takes its annotated facts as a dataclass does, defaults included."""
    error = WorkerDied("load", exit_code=3)

    assert (error.step, error.exit_code, error.lost) == ("load", 3, "")
    assert vars(error) == vars(WorkerDied(lost="", exit_code=3, step="load"))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(("load",), {}), (("load", 3, "", None, "", 5), {}), (("load", 3), {"step": "b"}), (("load", 3), {"host": "b"})],
    ids=["too few", "too many", "twice", "unknown"],
)
def test_other_facts_are_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """As any wrong call is, with a TypeError that names the facts."""
    with pytest.raises(TypeError, match="WorkerDied takes step, exit_code, lost, peak, output"):
        WorkerDied(*args, **kwargs)


class Rejected(StorageError):
    """A user's error with a fact of its own."""

    code: int = 500


class Unreachable(StorageError):
    """A user's error with a constructor of its own."""

    host: str

    def __init__(self, host: str) -> None:
        super().__init__("The storage can't be reached", host)
        self.host = host


class Annotated(StorageError):
    """A user's error with annotations that are none of its facts."""

    bucket: str
    kind: ClassVar[int] = 7


class Owned(RunFailed):
    """A user's error below one that has a constructor of its own."""

    owner: str = ""


class Plain(ProviderError):
    """A user's error with a message only."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Rejected("Value rejected", "too large", code=413), "Value rejected: too large."),
        (Unreachable("alpha"), "The storage can't be reached: alpha."),
        (Annotated("Value rejected", "too large"), "Value rejected: too large."),
        (Plain("no rows"), "no rows"),
        (ProviderError("no rows"), "no rows"),
    ],
    ids=identify,
)
def test_users_may_inherit(error: DotflowError, message: str) -> None:
    """A subclass adds facts, or has a constructor of its own."""
    assert str(error) == message
    assert isinstance(error, ProviderError)
    assert Annotated.kind == 7
    assert Owned("w", "r", [], 1).owner == ""


def test_no_error_uses_a_provider() -> None:
    """The errors are on the lowest floor, which has no providers; a message may name the one to write."""
    nodes = ast.walk(ast.parse(Path(errors.__file__).read_text()))
    names = {getattr(node, "id", getattr(node, "attr", getattr(node, "name", ""))) for node in nodes}

    assert names.isdisjoint(providers.__all__)
