"""Andon: what happens when something is abnormal, from a finding to the loop that stops."""

from entrenar_otel.andon.settings import AndonConfig

__all__ = ["AndonConfig"]
