"""Sink: receives OTLP and keeps it in a lake. Appended and durable first, acknowledged, decoded later."""
