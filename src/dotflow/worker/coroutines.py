"""Event loops for coroutines with a time limit, in the calling thread or in a thread of their own.

A coroutine whose time is up is cancelled. If it has not ended after GRACE seconds, it is dropped: never resumed again.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from dotflow import clock
from dotflow.errors import EventLoopBlocked
from dotflow.worker.deadline import GRACE, REPEAT, DeadlinePassed, Limit, LoopBlocked
from dotflow.worker.deadline_thread import Interrupts, Stopped, run_limited, stop_thread, waking
from dotflow.worker.interrupts import interrupts_held, interrupts_let_through
from dotflow.worker.programs import ThreadPrograms
from dotflow.worker.waiting import MAX_SLEEP


class Droppable:
    """Awaits a coroutine until it is dropped."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self.dropped = False

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[Any], Any] = self.coroutine.send
        value: Any = None
        while True:
            try:
                waited = resume(value)
            except StopIteration as stop:
                return stop.value
            try:
                value = yield waited
                resume = self.coroutine.send
            except GeneratorExit:  # its loop has ended, or it was dropped
                raise
            except BaseException as error:  # the coroutine sees what is thrown in
                if self.dropped:
                    raise
                value, resume = error, self.coroutine.throw


Ending = tuple[Any, BaseException | None]


def value_of(ending: Ending) -> Any:
    """Returns what the coroutine returned; raises what it raised."""
    value, error = ending
    if error is not None:
        raise error
    return value


async def run_with_deadline(droppable: Droppable, limit: Limit, guard: Limit | None = None) -> Ending:
    """Returns how a coroutine has ended, for `value_of`; raises DeadlinePassed if that takes too long.

    *guard* is the signal's limit, for a loop that is blocked. A loop that is alive extends it.
    """
    if not limit.seconds:
        return await _ending_of(droppable)
    task = asyncio.ensure_future(_ending_of(droppable))
    try:
        done, _ = await asyncio.wait({task}, timeout=limit.seconds)
        if done:
            return task.result()
        if guard is not None:
            guard.due += GRACE
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=GRACE)
    finally:
        if not task.done():
            droppable.dropped = True
            task.cancel()
            task.add_done_callback(_retrieve_exception)
    trace = None
    try:
        if done:
            task.result()
    except BaseException as late:  # it is too late, but its traceback shows where the coroutine was
        trace = late.__traceback__
    raise DeadlinePassed(limit).with_traceback(trace)


def _retrieve_exception(task: asyncio.Task[Ending]) -> None:
    """Keeps asyncio from logging an exception that was never retrieved."""
    if not task.cancelled():
        task.exception()


async def _ending_of(droppable: Droppable) -> Ending:
    """Returns its value, or an exception that would end the whole loop, or that asyncio would log."""
    try:
        return await droppable, None
    except (KeyboardInterrupt, SystemExit, Stopped) as error:
        return None, error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return None, error  # raised by the coroutine itself


class InlineLoop:
    """An event loop in the calling thread, which must not have one running."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._loop: asyncio.AbstractEventLoop

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        """A coroutine that blocks the loop is ended by the signal, as a function is."""
        runner = self._runner or self._open()
        droppable = Droppable(coroutine)
        guard = Limit(limit.seconds + REPEAT)
        main = run_with_deadline(droppable, limit, guard)
        try:
            return value_of(run_limited(guard, lambda: runner.run(main)) if limit.seconds else runner.run(main))
        except DeadlinePassed as passed:
            if passed.limit is limit:
                raise
            droppable.dropped = True  # the loop was interrupted
            main.close()
            self.close()
            if passed.limit is guard:
                raise DeadlinePassed(limit).with_traceback(passed.__traceback__) from None
            raise

    def _open(self) -> asyncio.Runner:
        with interrupts_held():
            self._runner = runner = asyncio.Runner()
            self._loop = runner.get_loop()
        self._wake()
        return runner

    def _wake(self) -> None:
        """Lets the loop sleep for no longer, since it may miss a signal that comes right before."""
        self._loop.call_later(MAX_SLEEP, self._wake)

    def close(self) -> None:
        if self._runner is None:
            return
        try:
            self._runner.close()
        finally:  # coroutines that clean up may be interrupted
            with interrupts_held():
                self._runner = None
                self._loop.close()


class LoopThread:
    """An event loop in a daemon thread of its own. The caller holds interrupts while it makes and stores one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._is_abandoned = False
        self.tasks: dict[object, asyncio.Task[None]] = {}  # the loop has only weak references to them
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._thread = threading.Thread(target=self._work, name="dotflow-loop", daemon=True)
        self._programs: ThreadPrograms | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def _work(self) -> None:
        with interrupts_held():
            self._programs = ThreadPrograms()
            clock.attempt_threads.add(threading.get_ident())
            try:
                with contextlib.suppress(Stopped), interrupts_let_through():
                    self._serve()
            finally:
                self._programs = None  # nothing is left to be stopped
                clock.attempt_threads.discard(threading.get_ident())
                self.loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
                break
            except (KeyboardInterrupt, SystemExit):  # of a task that a step has made, which raises it, too
                continue
        with contextlib.suppress(Exception):
            self.loop.run_until_complete(asyncio.sleep(0))  # all begin: Python warns of a coroutine that never does
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=GRACE / 2) if tasks else asyncio.sleep(0))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def run(self, coroutine: Coroutine[Any, Any, Any], limit: Limit) -> Any:
        """If the loop itself is blocked, its thread is abandoned."""
        main = run_with_deadline(Droppable(coroutine), limit)
        try:
            future = asyncio.run_coroutine_threadsafe(main, self.loop)
        except RuntimeError:  # it was abandoned, and is closed by now
            main.close()
            coroutine.close()
            raise EventLoopBlocked from None
        self._waiting.add(future)
        if self._is_abandoned:  # it may have ended, and may never run this one
            future.cancel()
        interrupts: Interrupts = []
        try:
            with waking(future.cancel) as interrupts:
                ending: Ending = future.result(limit.seconds + 1.5 * GRACE if limit.seconds else None)
            return value_of(ending)
        except concurrent.futures.TimeoutError:
            if future.done():
                raise
            limit.raised = 1
            self.abandon()
            raise LoopBlocked(limit) from None
        except concurrent.futures.CancelledError:
            if self._is_abandoned:
                raise EventLoopBlocked from None
            if interrupts:  # and the exception itself was lost in a finalizer
                raise interrupts[-1] from None
            raise
        finally:
            self._waiting.discard(future)

    def abandon(self) -> None:
        """Gives up a loop that one of its coroutines blocks: stops that one at its next line, cancels the others.

        The loop and its thread end with the one that blocks.
        """
        self._is_abandoned = True
        ident, programs = self._thread.ident, self._programs  # read once: the thread may end
        if ident is not None and programs is not None:
            stop_thread(ident, programs)
        for future in tuple(self._waiting):
            future.cancel()
        self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self.loop.stop)

    def close(self) -> None:
        if self._thread.ident is None:
            with contextlib.suppress(RuntimeError):  # it has only just started
                self.loop.close()
            return
        self._stop()
        self._thread.join(0.75 * GRACE)  # coroutines have half of it to clean up
        until = clock.ticks() + 0.25 * GRACE
        while self._thread.is_alive() and clock.ticks() < until:  # again, since a finalizer loses an exception
            self.abandon()
            self._thread.join(REPEAT)
