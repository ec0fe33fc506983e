"""Budgets: latencies, memory and patterns of spans held against their limits."""
