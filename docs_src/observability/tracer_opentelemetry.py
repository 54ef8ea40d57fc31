"""Each run and each attempt as a span of OpenTelemetry, below which the spans of your own steps belong."""

import sys

from dotflow import Config, DotFlow, action
from dotflow.providers import TracerOpenTelemetry

try:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
except ImportError:
    print("This needs OpenTelemetry: pip install 'dotflow[otel]' opentelemetry-sdk")
    sys.exit()


def line(span: ReadableSpan) -> str:
    return f"span {span.name}\n"


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))  # or where your spans go
trace.set_tracer_provider(provider)


@action
def fetch_orders() -> int:
    with trace.get_tracer("shop").start_as_current_span("ask the shop"):
        return 12


workflow = DotFlow(config=Config(tracer=TracerOpenTelemetry()), name="orders")
workflow.task.add(step=fetch_orders)
run = workflow.start()
print(run.status)
# span ask the shop
# span fetch_orders
# span dotflow.run orders
# Completed
