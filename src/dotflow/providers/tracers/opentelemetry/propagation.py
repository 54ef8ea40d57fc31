"""Trace context for the process in which a step runs, as W3C traceparent and baggage.

The program's own propagator has no influence: both ends are dotflow's, and a worker process needs no configuration.
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
    """Returns a carrier that makes *context* current elsewhere; None for an empty context."""
    headers: dict[str, str] = {}
    for propagator in _PROPAGATORS:
        propagator.inject(headers, context)
    return Carrier(ENTRY, headers) if headers else None


def enter(headers: Mapping[str, str]) -> Callable[[], None]:
    """Makes the context in *headers* current; returns a function that restores the one before."""
    context = get_current()
    for propagator in _PROPAGATORS:
        context = propagator.extract(headers, context)
    return partial(detach, attach(context))
