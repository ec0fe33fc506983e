"""Lazy names: what a package offers, each imported from its module when it is first asked for (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: dict[str, Any], modules: Mapping[str, str], aliases: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its `globals()`; a name that was asked for is in them from then on, and costs nothing more.
        modules: for each module the names that it has, separated by spaces.
        aliases: other names of these.

    >>> get, names = lazy_names({"__name__": "toy"}, {"fractions": "Fraction"}, {"Ratio": "Fraction"})
    >>> get("Ratio")(1, 2)
    Fraction(1, 2)
    >>> get("Decimal")
    Traceback (most recent call last):
    AttributeError: module 'toy' has no attribute 'Decimal'
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}
    others = aliases or {}

    def get(name: str) -> Any:
        original = others.get(name, name)
        if original not in homes:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        package[original] = value = getattr(import_module(homes[original]), original)
        return value

    return get, lambda: sorted({*package, *homes})
