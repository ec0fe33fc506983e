"""Schema: the settings as a JSON Schema, for editors and for our own messages."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a model, by alias, with the docstrings below its fields as descriptions.

    Nothing may be null, since TOML has no null.
    """
    schema = model.model_json_schema(by_alias=True)
    docs = _field_docs(model)
    for name, table in [(model.__name__, schema), *schema.get("$defs", {}).items()]:
        for key, node in table.get("properties", {}).items():
            if "anyOf" in node:
                (value,) = [choice for choice in node.pop("anyOf") if choice != {"type": "null"}]
                node.update(value)
            if "patternProperties" in node:  # would let keys pass that do not match
                ((pattern, value),) = node.pop("patternProperties").items()
                node["propertyNames"] = {**node.get("propertyNames", {}), "pattern": pattern}
                node["additionalProperties"] = value
            if node.get("default", 0) is None or "$ref" in node:
                node.pop("default", None)
            if described := docs.get(name, {}).get(key):
                node["description"] = described
            node.pop("title", None)
        table["title"] = name
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _field_docs(model: type[BaseModel]) -> dict[str, dict[str, str]]:
    """Docstrings of fields by class and TOML key, with those of the class's bases in the same module.

    Read here rather than by pydantic's `use_attribute_docstrings`, which would parse the module once per
    class at every start.
    """
    module = inspect.getmodule(model)
    assert module is not None
    body = ast.parse(inspect.getsource(module)).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    docs: dict[str, dict[str, str]] = {}
    for name, node in classes.items():
        inherited = [docs.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
        docs[name] = {key: text for known in inherited for key, text in known.items()} | dict(_docs_in(node))
    return docs


def _docs_in(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=key)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield key.rstrip("_"), " ".join(text.split())
