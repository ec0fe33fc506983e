"""Imports: call something when a module of somebody else's has been imported, and not import it for that.

`sitecustomize.py` loads this file by its place, in every Python of a program: it imports nothing of ours.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

Hook = Callable[[ModuleType], None]


class Finder(importlib.abc.MetaPathFinder):
    """Stands first, finds with all others, and lets the loader call the hook last."""

    def __init__(self, hooks: dict[str, Hook]) -> None:
        self.hooks = hooks
        self._finding: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.hooks or fullname in self._finding:
            return None
        self._finding.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding.discard(fullname)
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader, self.hooks.pop(fullname))
        return spec


def _call_after(loader: Any, hook: Hook) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        loader.exec_module = execute
        execute(module)
        _call(hook, module)

    loader.exec_module = exec_module


def when_imported(name: str, hook: Hook) -> None:
    """Call `hook(module)` once this module has been imported; now, where it has been."""
    if name in sys.modules:
        _call(hook, sys.modules[name])
        return
    finder = next((found for found in sys.meta_path if isinstance(found, Finder)), None)
    if finder is None:
        finder = Finder({})
        sys.meta_path.insert(0, finder)
    earlier = finder.hooks.get(name)

    def both(module: ModuleType) -> None:
        if earlier is not None:
            _call(earlier, module)
        hook(module)

    finder.hooks[name] = both


def _call(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception as error:  # the program's import must not fail of it
        sys.stderr.write(f"entrenar: {module.__name__} is not recorded: {type(error).__name__}: {error}\n")
