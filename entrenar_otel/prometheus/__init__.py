"""Prometheus: names as the Collector has them, and the /metrics page."""
