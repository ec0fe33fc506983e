"""Speed and memory against peers: `python -m benchmarks [NAME …]` (see `docs/benchmarks.md`)."""
