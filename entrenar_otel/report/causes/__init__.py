"""Causes: each recognised in a file of its own."""
