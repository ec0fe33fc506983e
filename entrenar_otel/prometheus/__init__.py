"""Prometheus: names and labels as the Collector gives them, and the /metrics page."""
