"""Settings: in which settings, seeds, packages and commits two sides differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_otel.compare.reader import RunReader
from entrenar_otel.lake.records import runs
from entrenar_otel.semconv import ENVIRONMENT

#: Settings of a run whose configuration stayed on its machine.
WITHHELD = "withheld"
_ENVIRONMENTS = """
SELECT run_id, arg_max(body, (attempt, -rank)) AS body FROM events
WHERE list_contains(?, run_id) AND name = ? AND body IS NOT NULL GROUP BY run_id
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that differs: its values on either side, each once; none where no run has it."""

    name: str
    a: tuple[Any, ...]
    b: tuple[Any, ...]


def is_seed(name: str) -> bool:
    """Whether a setting chooses random numbers, and nothing that is learnt of.

    >>> [is_seed(name) for name in ("seed", "data.shuffle_seed", "model.random_state", "seeds", "lr")]
    [True, True, True, False, False]
    """
    return runs.is_seed(name.rpartition(".")[2])


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration with a dotted name for each setting; a list is one.

    >>> flat({"lr": 0.1, "optim": {"name": "sgd", "betas": [0.9, 0.99]}})
    {'lr': 0.1, 'optim.name': 'sgd', 'optim.betas': [0.9, 0.99]}
    """
    return dict(_flat(config, prefix))


def _flat(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            if isinstance(value, Mapping) and value:
                yield from _flat(value, name)
            else:
                yield name, value
    elif config is not None:
        yield prefix or "value", config


def without_seeds(config: Any) -> dict[str, Any]:
    """The flat configuration without the settings of seeds: what runs of one configuration share."""
    return flat(runs.without_seeds(config))


def group_of(config: Any) -> str:
    """The hash that runs have in common whose configurations differ in seeds only, as the lineage has it.

    >>> group_of({"lr": 0.1, "seed": 1}) == group_of({"seed": 2, "lr": 0.1}) != group_of({"lr": 0.2})
    True
    """
    return runs.config_group(json.dumps(config, default=str))


def differences(a: Iterable[Mapping[str, Any]], b: Iterable[Mapping[str, Any]]) -> list[Setting]:
    """The settings of which either side has a value that the other has not, by name."""
    sides = [_values(configs) for configs in (a, b)]
    return [
        Setting(name, *(tuple(side.get(name, {}).values()) for side in sides))
        for name in sorted(sides[0].keys() | sides[1].keys())
        if sides[0].get(name, {}).keys() != sides[1].get(name, {}).keys()
    ]


def _values(configs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By setting, its values by their texts."""
    values: dict[str, dict[str, Any]] = {}
    for config in configs:
        for name, value in config.items():
            values.setdefault(name, {})[json.dumps(value, sort_keys=True, default=str)] = value
    return values


def environments_of(reader: RunReader, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By run, flat, what it noted of its surroundings: `python`, `packages.NAME` and others.

    Runs of older versions have noted nothing. Raises QueryError.
    """
    found = {}
    for row in reader.ask(_ENVIRONMENTS, [ENVIRONMENT], run_ids).to_pylist():
        try:
            body = json.loads(row["body"])
        except ValueError:  # another program's event of that name
            continue
        if isinstance(body, dict):
            found[row["run_id"]] = flat(body)
    return found
