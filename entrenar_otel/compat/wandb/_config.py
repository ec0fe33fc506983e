"""Config: `wandb.config`, hyper-parameters by name and as attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from entrenar_otel.compat.wandb._by_attribute import ByAttribute
from entrenar_otel.compat.wandb.left_out import Error

_Told = Callable[[dict[str, Any]], object]


class Config(ByAttribute):
    """As `wandb.config`: a value that is there may be replaced with `allow_val_change` only.

    Args:
        on_change: told what was set, each time.

    >>> config = Config({"lr": 0.1})
    >>> config.layers = 2
    >>> config["lr"], config.layers, "seed" in config
    (0.1, 2, False)
    """

    def __init__(self, values: Any = None, on_change: _Told | None = None) -> None:
        super().__init__("wandb.config", as_mapping(values))
        object.__setattr__(self, "_on_change", on_change or (lambda _changed: None))

    def update(self, given: Any = (), /, allow_val_change: bool | None = None, **more: Any) -> None:
        """Set several, of a mapping, a namespace of argparse, or a YAML file. Raises `wandb.Error`."""
        self._set({**as_mapping(given), **more}, bool(allow_val_change))

    def setdefaults(self, given: Any) -> None:
        """Set those that are not there."""
        self._set({key: value for key, value in as_mapping(given).items() if key not in self._values}, True)

    def as_dict(self) -> dict[str, Any]:
        """All of them."""
        return dict(self._values)

    def _set(self, given: Mapping[str, Any], may_change: bool) -> None:
        changed = {key: value for key, value in given.items() if not _is_same(self._values, key, value)}
        taken = [key for key in changed if key in self._values]
        if taken and not may_change:
            raise Error(
                f"wandb.config has {taken[0]!r} already, as {self._values[taken[0]]!r}: to replace it, call "
                "config.update(…, allow_val_change=True)"
            )
        self._values.update(changed)
        if changed:
            self._on_change(changed)

    def __setitem__(self, key: str, value: Any) -> None:
        self._set({key: value}, may_change=False)


def as_mapping(given: Any) -> dict[str, Any]:
    """What may be given as a configuration, as a dictionary; of a YAML file of W&B the values."""
    if isinstance(given, str | Path):
        return _from_file(Path(given))
    if given is None:
        return {}
    if not isinstance(given, Mapping) and hasattr(given, "__dict__"):
        given = vars(given)
    return {str(key): value for key, value in dict(given).items()}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise Error(f"a configuration in {path} needs PyYAML: pip install pyyaml") from None
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    loaded.pop("wandb_version", None)
    if all(isinstance(entry, dict) and "value" in entry for entry in loaded.values()):  # as W&B writes it
        return {key: entry["value"] for key, entry in loaded.items()}
    return loaded


def _is_same(values: Mapping[str, Any], key: str, value: Any) -> bool:
    try:
        return key in values and bool(values[key] is value or values[key] == value)
    except Exception:  # an array, or a stranger's comparison
        return False
