"""Launch: `entrenar-otel run`, which starts a program, hands its signals on, and says how it ended."""
