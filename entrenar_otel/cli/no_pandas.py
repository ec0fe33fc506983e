"""No pandas: a command starts without it, where pyarrow would load it to find that nothing is of pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NotNow:
    """Finds no pandas."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not asked for", name=name)
        return None


def do_without_pandas() -> None:
    """Let pyarrow look for pandas now, in vain; for the first table it would, and take a third of a second.

    Whoever imports pandas has it, and so has pyarrow as soon as it is asked for a DataFrame. Only what is
    given to `pyarrow.array` is not looked at for being of pandas any more. No command has such, but a program
    may: this is for a process of our own.
    """
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NotNow)
    try:
        import pyarrow

        pyarrow.array([])
    finally:
        sys.meta_path.remove(_NotNow)
