"""What dotflow takes from Linux and CPython beyond the documented standard library, and from the SQLite that it brings.

Beside it only `code/bytecode.py` relies on internals: on the format of bytecode.
`tests/unit/test_cpython.py` tries each of these on CPython 3.11, 3.12 and 3.13. A new Python begins with that test.
"""

import _signal  # type: ignore[import-not-found]
import atexit
import ctypes
import functools
import gc
import opcode
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, MappingProxyType
from typing import Any, Final

# The functions that the signal module wraps. Turning numbers into enums takes it longer than the calls themselves.
set_handler: Final[Callable[[int, Any], Any]] = _signal.signal
get_handler: Final[Callable[[int], Any]] = _signal.getsignal
#: On a system without it, this module is imported, but the function is not called.
set_mask: Final[Callable[[int, Iterable[int]], set[int]]] = getattr(_signal, "pthread_sigmask", lambda how, mask: set())
SIG_DFL: Final[Any] = _signal.SIG_DFL  # these functions refuse the enum's member
ALL_SIGNALS: Final = frozenset(map(int, signal.valid_signals()))
_LEAVES_WITH: Final = bytes((opcode.opmap["PUSH_EXC_INFO"], opcode.opmap["WITH_EXCEPT_START"]))


def raise_in_thread(ident: int, exception: type[BaseException] | None) -> None:
    """Sets *exception* to be raised in a thread at its next Python line; None takes it back.

    PyThreadState_SetAsyncExc of the stable ABI. The thread itself makes the instance, where it is raised; on 3.11 where
    it is first handled.
    """
    value = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), value)


def never_free(value: object) -> None:
    """Keeps the interpreter from freeing an object, also at its own end: Py_IncRef of the stable ABI."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def become_subreaper() -> None:
    """Makes this process the parent of all orphans among its descendants: PR_SET_CHILD_SUBREAPER of prctl(2), Linux."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def mapping_behind(value: MappingProxyType[Any, Any]) -> Any:
    """Returns the mapping that a read-only one shows. Unlike `dict(value)`, it runs no code of the mapping's type."""
    (shown,) = gc.get_referents(value)
    return shown


def frame_of_caller() -> FrameType:
    """Returns the frame that has called the function that calls this one: sys._getframe."""
    return sys._getframe(2)


def is_from_import() -> bool:
    """Returns whether `from package import name` calls the function that calls this one: the package's `__getattr__`.

    That is importlib._bootstrap._handle_fromlist. It drops the message of an AttributeError, but not of an ImportError.
    All else, such as `hasattr` and pickle, expects an AttributeError.
    """
    return sys._getframe(2).f_code.co_name == "_handle_fromlist"


def is_leaving_with(frame: FrameType) -> bool:
    """Returns whether the frame calls the `__exit__` of a `with` next, in which an error was raised."""
    at = frame.f_lasti
    return frame.f_code.co_code[at : at + 4 : 2] == _LEAVES_WITH


def json_writer() -> Callable[[Any], str]:
    """Returns a function that writes plain values as JSON, without NaN: json.encoder.c_make_encoder.

    JSONEncoder.encode makes such an encoder for each value, which takes it longer than to write a small one.
    """
    from json import JSONEncoder, encoder

    default = JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False)
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return default.encode
    quote = encoder.encode_basestring
    encode = make(None, default.default, quote, None, ": ", ", ", False, False, False)
    return lambda value: "".join(encode(value, 0))


def has_running_loop() -> bool:
    """Returns whether the calling thread runs an event loop, without importing asyncio: asyncio._get_running_loop."""
    return "asyncio" in sys.modules and sys.modules["asyncio"]._get_running_loop() is not None


def forget_running_loop() -> None:
    """Lets a forked child run an event loop, though its parent's thread was running one: asyncio._set_running_loop."""
    if "asyncio" in sys.modules:
        sys.modules["asyncio"]._set_running_loop(None)


def forget_exit_handlers() -> None:
    """Drops what a forked child has from its parent's atexit: atexit._clear."""
    atexit._clear()


def run_exit_handlers() -> None:
    """Runs what is registered with atexit, in a process that ends by os._exit: atexit._run_exitfuncs."""
    atexit._run_exitfuncs()


def join_threads() -> None:
    """Waits for all non-daemon threads, as the interpreter does at its end: threading._shutdown."""
    getattr(threading, "_shutdown", lambda: None)()


def call_before_threads_are_joined(function: Callable[[], object]) -> None:
    """Calls *function* when the main thread has ended, before thread pools are closed: threading._register_atexit.

    What is registered last is called first, so concurrent.futures has to register its own function before.
    """
    import concurrent.futures.thread

    assert concurrent.futures.thread is not None
    getattr(threading, "_register_atexit", lambda function: None)(function)


def end_as_interrupted() -> None:
    """Makes the interpreter end as after Ctrl-C in the main thread: a traceback, the exit handlers, then SIGINT.

    CPython ignores exceptions that are raised after the main thread has ended. It ends by SIGINT only if code that it
    runs by itself was interrupted (run_eval_code_obj in pythonrun.c): PyRun_SimpleString.
    """
    ctypes.pythonapi.PyRun_SimpleString(b"raise KeyboardInterrupt")


def interpreter_flags() -> list[str]:
    """Returns the options that make another interpreter behave like this one: _args_from_interpreter_flags."""
    import subprocess

    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


#: By kind of lock, the arguments of its constructor. A plain semaphore does not keep its initial value, and may be held
#: at this moment: then a new one gets 1.
LOCK_ARGUMENTS: Final[Mapping[type, Callable[[Any], tuple[Any, ...]]]] = {
    threading.Condition: lambda condition: (condition._lock,),
    threading.Semaphore: lambda semaphore: (max(1, semaphore._value),),
    threading.BoundedSemaphore: lambda semaphore: (semaphore._initial_value,),
    threading.Barrier: lambda barrier: (barrier.parties, barrier._action, barrier._timeout),
}


class _SQLiteVFS(ctypes.Structure):
    """`struct sqlite3_vfs`, version 3: sqlite.org/c3ref/vfs.html."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("before_sleep", ctypes.c_void_p * 9),
        ("xSleep", ctypes.c_void_p),
        ("after_sleep", ctypes.c_void_p * 6),
    )


@functools.cache
def sqlite_without_sleep() -> str:
    """Returns the name of a SQLite VFS that is the default one, but never sleeps; "" where there can be none.

    Where a lock of a write-ahead log can't be acquired, SQLite tries 100 times, and sleeps for 10 s in between. Neither
    a timeout nor an interrupt ends that. This VFS yields instead, so that the caller decides how long to wait.
    """
    import _sqlite3  # here, since most runs use no SQLite

    name = b"dotflow"
    try:
        library, system = ctypes.CDLL(_sqlite3.__file__), ctypes.CDLL(None)
        find, register, sleep = library.sqlite3_vfs_find, library.sqlite3_vfs_register, system.sched_yield
    except (AttributeError, OSError, TypeError):  # SQLite is linked in without its symbols; Windows
        return ""
    find.restype, find.argtypes = ctypes.POINTER(_SQLiteVFS), [ctypes.c_char_p]
    register.argtypes = [ctypes.POINTER(_SQLiteVFS), ctypes.c_int]
    default = find(None)
    if not find(name):  # another copy of this module has registered it
        if not default or default.contents.iVersion != 3:
            return ""
        vfs = _SQLiteVFS.from_buffer_copy(default.contents)
        vfs.zName, vfs.xSleep = name, ctypes.cast(sleep, ctypes.c_void_p)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(vfs))  # SQLite keeps it until the process ends
        register(vfs, 0)
    return name.decode()
