"""Left out: what W&B has and a Monitor does not record. It is said once by name, and counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.errors import EntrenarError

#: By name: how often it was used, in this process.
used: Counter[str] = Counter()


class Error(EntrenarError):
    """As `wandb.Error`."""


class UsageError(Error):
    """As `wandb.errors.UsageError`: something was called too early, or with what cannot be."""


def tell_left_out(name: str, instead: str = "") -> None:
    """Say, the first time, that this does nothing here."""
    used[name] += 1
    if used[name] == 1:
        more = f"; {instead}" if instead else ""
        logger.warning("wandb.%s does nothing in entrenar_otel.compat.wandb%s", name, more)


class Nothing:
    """Stands for an object of W&B that is not recorded: it takes every call and every attribute.

    >>> table = Nothing("Table")
    >>> table.add_data(1, 2).get_column("x")
    <wandb.Table, not recorded>
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_arguments: Any, **_settings: Any) -> Any:
        return self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"<wandb.{self._kind}, not recorded>"


def kind_of(value: Any) -> str | None:
    """What a value is called that is no number; None for one that may be: text, a list, an image, a table."""
    if isinstance(value, Nothing):
        return value._kind
    if value is None:
        return "None"
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, list | tuple | set):
        return "a list"
    size = getattr(value, "size", 1)
    if callable(size):  # PyTorch's
        size = value.numel() if hasattr(value, "numel") else 1
    if isinstance(size, int) and size != 1:
        return "an array"
    return None
