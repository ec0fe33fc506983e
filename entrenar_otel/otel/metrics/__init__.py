"""OpenTelemetry's metrics: instruments in front of the recorder, aggregates and exporters behind it."""
