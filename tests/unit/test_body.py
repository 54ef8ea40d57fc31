"""The body of a durable step, and what it sends."""

import asyncio
import contextlib
import threading

from dotflow import action
from dotflow.calls.body import Body
from dotflow.calls.requests import Requests
from dotflow.core.calls import CallAnswer, CallRequest, TypeRequest


class SlowRequests(Requests):
    """Answers the failure of a call only when the event loop has gone on meanwhile."""

    def __init__(self) -> None:
        super().__init__(is_slow=True, is_followed=True)
        self.has_failed, self.goes_on = threading.Event(), threading.Event()
        self.kinds: list[TypeRequest] = []

    def send(self, request: CallRequest) -> CallAnswer:
        self.kinds.append(request.kind)
        if request.kind is TypeRequest.FAIL:
            self.has_failed.set()
            assert self.goes_on.wait(10), "the loop stands still"
        return CallAnswer(TypeRequest.MAKE)


@action
async def fails() -> None:
    raise ValueError("no rows")


def test_a_failed_call_does_not_stop_the_loop() -> None:
    """The history receives the failure while other coroutines go on."""
    requests = SlowRequests()

    async def body() -> str:
        call = asyncio.create_task(fails())
        while not requests.has_failed.is_set():
            await asyncio.sleep(0)
        requests.goes_on.set()
        with contextlib.suppress(ValueError):
            await call
        return "went on"

    made = Body(requests, "agent", "base", "agent-call-", None).run_coroutine(body)

    assert asyncio.run(made) == "went on"
    assert requests.kinds == [TypeRequest.ASK, TypeRequest.FAIL]
