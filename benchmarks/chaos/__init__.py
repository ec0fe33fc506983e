"""Chaos: whether every acknowledged sample is there, once and right, whoever is killed where."""
