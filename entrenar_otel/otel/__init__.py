"""OpenTelemetry: its environment variables, resource, metrics and spans."""
