"""OpenTelemetry's spans: a run, its epochs and what happens in them, noted and exported."""
