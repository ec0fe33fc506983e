"""The JSON Schema of renacer.toml: what is committed, what it explains, what it takes and refuses."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
from entrenar_processors.config.models import config_schema

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "data" / "renacer"


def documents(folder: str) -> dict[str, Any]:
    found = {}
    for path in sorted((CORPUS / folder).glob("*.toml")):
        text = path.read_bytes().decode("utf-8-sig")
        try:
            found[text] = tomllib.loads(text)
        except (ValueError, RecursionError):
            assert path.stem.startswith("syntax")
    return found


def test_the_committed_schema_is_the_code_s() -> None:
    """After a change: entrenar-otel config schema > docs/renacer.schema.json."""
    committed = (ROOT / "docs" / "renacer.schema.json").read_text(encoding="utf-8")
    assert committed == json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def test_everything_is_explained() -> None:
    """Every table and every key has a description for an editor to show; nothing may be null."""
    schema = config_schema()
    for name, table in schema["$defs"].items():
        if "properties" not in table:  # actions and levels
            continue
        assert table["description"], name
        for key, node in table["properties"].items():
            assert node.get("description") or node.get("const") or "$ref" in node, f"{name}.{key}"
    assert '"null"' not in json.dumps(schema)


def test_the_schema_takes_and_refuses_what_the_code_does() -> None:
    """The good corpus passes; of the bad one all is refused but what no schema can tell, which is marked."""
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for text, document in documents("good").items():
        assert not list(validator.iter_errors(document)), text
    for text, document in documents("bad").items():
        assert validator.is_valid(document) == ("# schema: accepts" in text), text
    example = tomllib.loads((ROOT / "renacer.toml").read_text(encoding="utf-8"))
    assert validator.is_valid(example)
