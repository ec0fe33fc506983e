"""By attribute: a mapping whose keys are attributes as well, as W&B's are."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any


class ByAttribute(MutableMapping[str, Any]):
    """Keeps `values`; an error names it `name`. What a class keeps besides is set by `object.__setattr__`."""

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_values", values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["_values"][name]  # which is not there yet in a copy that is being made
        except KeyError:
            raise AttributeError(f"{vars(self).get('_name')} has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return repr(self._values)
