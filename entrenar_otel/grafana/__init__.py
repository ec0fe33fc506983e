"""Grafana's dashboards and Prometheus's rules, made from the table of metrics and from renacer.toml."""
