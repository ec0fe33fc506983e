"""Detectors: one per file, each a `Processor`."""
