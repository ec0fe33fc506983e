"""Judging: samples, budgets and warnings of a run become findings, and findings alerts."""
