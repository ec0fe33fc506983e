"""Serving: what watches a model once it is in use."""
