"""How the place of an attempt in its trace travels to where its step runs, and is taken there.

As W3C traceparent and baggage, whatever propagator the program has chosen for its own messages: both ends are ours,
and a worker process need not be set up for it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dotflow.core.call import Carrier

ENTRY: Final = "dotflow.providers.tracers.opentelemetry.propagation:enter"

_PROPAGATORS: Final = TraceContextTextMapPropagator(), W3CBaggagePropagator()


def make_carrier(context: Context) -> Carrier | None:
    """What makes *context* current elsewhere; None where there is nothing in it."""
    headers: dict[str, str] = {}
    for propagator in _PROPAGATORS:
        propagator.inject(headers, context)
    return Carrier(ENTRY, headers) if headers else None


def enter(headers: Mapping[str, str]) -> Callable[[], None]:
    """Makes the place that *headers* name the current one; returns what puts back the one before."""
    context = get_current()
    for propagator in _PROPAGATORS:
        context = propagator.extract(headers, context)
    return partial(detach, attach(context))
