"""Decoding: OTLP requests from anywhere as samples, notes and facts; all of it is checked."""
