"""OTLP: samples as blocks, events as log records, and the client that sends them."""
