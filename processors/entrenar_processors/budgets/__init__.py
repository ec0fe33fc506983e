"""Budgets: latencies, memory and patterns of spans, judged against their limits."""
