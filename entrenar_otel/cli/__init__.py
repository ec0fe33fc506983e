"""The command `entrenar-otel`."""
