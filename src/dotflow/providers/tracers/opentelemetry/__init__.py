"""The tracer for OpenTelemetry."""
