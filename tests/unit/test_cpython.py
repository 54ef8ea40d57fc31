"""The module cpython works on this Python."""

import _sqlite3  # type: ignore[import-not-found]
import asyncio
import ctypes
import json
import signal
import subprocess
import sys
import threading
from types import FrameType, MappingProxyType, ModuleType
from typing import Any

import pytest

from dotflow import cpython


class Boom(BaseException):
    """Raised from outside."""


def test_an_exception_is_raised_at_the_threads_next_line() -> None:
    """The thread makes the instance itself."""
    with pytest.raises(Boom):
        cpython.raise_in_thread(threading.get_ident(), Boom)


def test_what_a_read_only_mapping_shows_runs_no_code() -> None:
    """Whatever type of mapping it is."""

    class Refuses(dict[str, int]):
        def keys(self) -> Any:
            raise AssertionError

    shown = Refuses(a=1)
    assert cpython.mapping_behind(MappingProxyType(shown)) is shown


def test_an_exceptions_constructor_finds_the_frame() -> None:
    """The one that it is raised in; on 3.11 the one that handles it first."""
    seen: list[FrameType] = []

    class Looks(BaseException):
        def __init__(self) -> None:
            seen.append(cpython.frame_of_caller())

    try:
        cpython.raise_in_thread(threading.get_ident(), Looks)
    except Looks:
        here = sys._getframe()

    assert seen[0] is here or seen[0].f_code is cpython.raise_in_thread.__code__


def test_a_from_import_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for a name that the package does not have; `hasattr` and `import` do not look in the same way."""
    looks: list[bool] = []

    def find(name: str) -> None:
        looks.append(cpython.is_from_import())
        raise AttributeError(name)

    package = ModuleType("some_package")
    package.__dict__.update(__path__=[], __getattr__=find)
    monkeypatch.setitem(sys.modules, "some_package", package)

    assert not hasattr(package, "thing")
    with pytest.raises(ImportError):
        exec("from some_package import thing")
    assert looks[:2] == [False, True]


def test_the_end_of_a_with_is_known() -> None:
    """Of the lines of a function whose `with` is left by an error, the last one calls the `__exit__`."""
    leaving: list[bool] = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line" and frame.f_code is step.__code__:
            leaving.append(cpython.is_leaving_with(frame))
        return trace

    def step() -> None:
        with threading.Lock():
            raise Boom

    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(Boom):
            step()
    finally:
        sys.settrace(tracing)
    assert leaving == [False, False, True]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not show SQLite's functions")
def test_sqlite_does_not_sleep() -> None:
    """A lock that can't be acquired fails at once. With SQLite's own sleeps, this test would take an hour."""
    name = cpython.sqlite_without_sleep()
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_vfs_find.restype = ctypes.POINTER(cpython._SQLiteVFS)
    vfs = library.sqlite3_vfs_find(name.encode())
    sleep = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(vfs.contents.xSleep)

    assert name == "dotflow"
    for _ in range(2):
        sleep(ctypes.addressof(vfs.contents), 1_800_000_000)


@pytest.mark.parametrize("has_accelerator", [True, False])
def test_json_is_written_as_jsons_own_encoder_writes_it(has_accelerator: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without the encoder in C. NaN and types that JSON lacks are refused."""
    if not has_accelerator:
        monkeypatch.setattr("json.encoder.c_make_encoder", None)
    write = cpython.json_writer()
    value: dict[str, Any] = {"text": 'é"\n\u2028', "list": [1, 2.5, True, None, [], {}]}

    given: Any
    for given in (value, "text", 7, 1e300, None, []):
        assert write(given) == json.dumps(given, ensure_ascii=False)
    with pytest.raises(ValueError, match="JSON compliant"):
        write([float("nan")])
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        write([object()])


def test_nothing_is_taken_back_where_nothing_is_set() -> None:
    """None cancels an exception that is set; here there is none."""
    cpython.raise_in_thread(threading.get_ident(), None)


def test_it_sees_the_running_loop_and_can_forget_it() -> None:
    """A forked child has to forget its parent's loop."""

    async def look() -> list[bool]:
        seen = [cpython.has_running_loop()]
        loop = asyncio.get_running_loop()
        cpython.forget_running_loop()
        seen.append(cpython.has_running_loop())
        asyncio._set_running_loop(loop)
        return seen

    assert not cpython.has_running_loop()
    assert asyncio.run(look()) == [True, False]


@pytest.mark.parametrize(
    "lock",
    [
        threading.Condition(threading.Lock()),
        threading.Semaphore(3),
        threading.BoundedSemaphore(3),
        threading.Barrier(2, timeout=5),
    ],
    ids=lambda lock: type(lock).__name__,
)
def test_a_lock_can_be_made_anew(lock: object) -> None:
    """Its constructor, called with these arguments, returns a lock like it."""
    arguments = cpython.LOCK_ARGUMENTS[type(lock)]

    assert arguments(type(lock)(*arguments(lock))) == arguments(lock)


def test_signals_are_set_by_number() -> None:
    """The handlers, masks and numbers are those of the signal module."""
    before = cpython.get_handler(signal.SIGUSR1)

    assert cpython.SIG_DFL == signal.SIG_DFL
    assert cpython.set_handler(signal.SIGUSR1, cpython.SIG_DFL) is before
    assert cpython.set_handler(signal.SIGUSR1, before) == signal.SIG_DFL
    assert cpython.set_mask(signal.SIG_BLOCK, ()) == signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert set(signal.valid_signals()) == cpython.ALL_SIGNALS


def run(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    program = "import atexit, os, sys, threading, time\nfrom dotflow import cpython\n" + code
    return subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=False)


def test_another_interpreter_gets_the_same_options() -> None:
    """Options that change Python's behaviour are passed on."""
    assert run("print(cpython.interpreter_flags())", "-X", "dev", "-B").stdout == "['-B', '-X', 'dev']\n"


def test_a_process_may_end_as_an_interpreter_does() -> None:
    """It waits for its threads, then runs the exit handlers that were not dropped."""
    done = run("""
atexit.register(print, "dropped")
cpython.forget_exit_handlers()
atexit.register(print, "exit handler")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
cpython.join_threads()
cpython.run_exit_handlers()
sys.stdout.flush()
os._exit(0)
""")

    assert done.stdout == "thread\nexit handler\n"


def test_a_call_before_the_threads_are_joined_may_use_pools_and_interrupt() -> None:
    """It is called at the end of the main thread. Thread pools still work, and the process may end as after Ctrl-C."""
    done = run("""
import concurrent.futures
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(int).result()  # its thread is there: Python 3.12.1 starts none any more
def last():
    pool.submit(print, "pool").result()
    cpython.end_as_interrupted()
cpython.call_before_threads_are_joined(last)
atexit.register(print, "exit handler")
""")

    assert done.stdout == "pool\nexit handler\n"
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.returncode == -signal.SIGINT
