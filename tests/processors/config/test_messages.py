"""The words of a refused setting: where it is, what may stand there, what stands there."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from entrenar_processors.config.messages import described, key_text, node_at, shown

DOCUMENT = {"monitor": {"threshold": [{"name": "a"}, {"name": 'b "c"', "min": 1}], "odd key": 3}, "list": [1]}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("monitor", "threshold", 1, "min"), 'monitor.threshold[1] ("b \\"c\\"").min'),
        (("monitor", "odd key"), 'monitor."odd key"'),
        (("monitor", "k" * 60), "monitor." + "k" * 60),
        (("monitor", "k" * 61), f'monitor."{"k" * 57}…" (61 characters)'),
        (("list", 0, "x"), "list[0].x"),
        (("list", 5), "list[5]"),  # there is none: a wrong document must not fail the message
        (("monitor", 0, "name"), "monitor[0].name"),
        (("nothing", "here", 1), "nothing.here[1]"),
    ],
)
def test_where(path: tuple[Any, ...], text: str) -> None:
    assert key_text(path, DOCUMENT) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "a table"),
        ([], "an empty list"),
        ([{}, {}], "a list of tables"),
        ([{}, 1], "a list"),
        (True, "true"),
        (False, "false"),
        (10**30 - 1, str(10**30 - 1)),
        (10**30, "a number of 100 bits"),
        (-(10**30), "a number of 100 bits"),
        (0.1, "0.1"),
        (float("nan"), "nan"),
        (datetime.date(2026, 1, 2), "the date 2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "the date 2026-01-02T03:00:00+00:00"),
        (datetime.time(3, 4), "the time 03:04:00"),
        (None, "nothing"),
        (b"x", "a bytes"),
        ("https://host/x?token=abc", '"https://host/x?…"'),
        ("what? no", '"what? no"'),
    ],
)
def test_what_stands_there(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("key", ["api_key", "PASSWORD", "slack_webhook", "token_env", "Authorization"])
def test_secrets_are_not_shown(key: str) -> None:
    """By the name of any key on the way; a list or a table says what it is."""
    assert shown("x", ("handlers", key)) == shown(5, (key, 0)) == "a value that is not shown"
    assert shown(["x"], (key,)) == "a list"


SCHEMA: dict[str, Any] = {
    "$defs": {
        "A": {"type": "object", "properties": {"type": {"const": "a"}, "n": {"type": "integer"}}},
        "B": {"type": "object", "properties": {"type": {"const": "b"}}},
    },
    "type": "object",
    "properties": {
        "one": {"$ref": "#/$defs/A"},
        "many": {
            "type": "array",
            "items": {
                "discriminator": {
                    "propertyName": "type",
                    "mapping": {"a": "#/$defs/A", "b": "#/$defs/B"},
                }
            },
        },
        "any": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "closed": {"type": "object", "additionalProperties": False},
    },
}


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"enum": ["a", "b"]}, 'one of "a", "b"'),
        ({"const": "x"}, '"x"'),
        ({"type": "number"}, "a number"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "a number from 0 to 1"),
        ({"type": "integer", "minimum": 2}, "a whole number of at least 2"),
        (
            {"type": "integer", "exclusiveMinimum": 0, "maximum": 1e6},
            "a whole number above 0 and at most 1,000,000",
        ),
        ({"type": "boolean"}, "true or false"),
        ({"type": "string"}, "text"),
        ({"type": "string", "minLength": 1}, "non-empty text"),
        ({"type": "string", "maxLength": 9}, "text of 0 to 9 characters"),
        ({"type": "string", "minLength": 1, "maxLength": 9}, "text of 1 to 9 characters"),
        ({"type": "string", "minLength": 1, "x-expected": "a name"}, "a name"),
        ({"type": "array", "items": {"type": "string"}}, 'a list of names, such as ["loss"]'),
        ({"type": "array"}, 'a list of names, such as ["loss"]'),
        ({"type": "array", "items": {"$ref": "#/$defs/A"}}, "a list of tables"),
        (SCHEMA["properties"]["many"], "a list of tables"),
        ({"type": "object"}, "a table"),
        ({}, "a table"),
    ],
)
def test_what_may_stand_there(node: dict[str, Any], text: str) -> None:
    assert described(SCHEMA, node) == text


def test_the_node_of_a_path() -> None:
    """By references, by the kind that the document says, by free keys; None where nothing is known."""
    defs = SCHEMA["$defs"]
    document = {"many": [{"type": "b"}, {"type": "a", "n": 1}, {"type": "c"}, 5]}
    assert node_at(SCHEMA, (), document) == SCHEMA
    assert node_at(SCHEMA, ("one", "n"), {}) == {"type": "integer"}
    assert node_at(SCHEMA, ("many", 0), document) == defs["B"]
    assert node_at(SCHEMA, ("many", 1, "n"), document) == {"type": "integer"}
    for unknown in (2, 3, 4, -1):
        assert node_at(SCHEMA, ("many", unknown), document) == SCHEMA["properties"]["many"]["items"]
        assert node_at(SCHEMA, ("many", unknown, "n"), document) is None
    assert node_at(SCHEMA, ("many", 0), {"many": "no list"}) == SCHEMA["properties"]["many"]["items"]
    assert node_at(SCHEMA, ("any", "x"), {}) == {"type": "boolean"}
    assert node_at(SCHEMA, ("closed", "x"), {}) is None
    assert node_at(SCHEMA, ("nothing",), {}) is None
