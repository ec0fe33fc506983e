"""Importers: the history of other trackers, brought into the lake."""
