"""Messages: what a setting may be, by the JSON Schema, and what it is, on one line and without secrets."""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from entrenar_processors.config.lines import Path

Schema = Mapping[str, Any]

#: Keys whose values may be secrets, and are not shown.
_SECRET = re.compile(
    r"token|passw|secret|credential|auth|cookie|webhook|_env$|(?:api|access|private)_?key", re.I
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = 60


def quoted(text: str) -> str:
    """Text in double quotes, on one line, and not too long.

    >>> quoted("a\\n" + "b" * 100)
    '"a\\\\nbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…" (102 characters)'
    """
    size = "" if len(text) <= _LONGEST else f" ({len(text):,} characters)"
    whole = json.dumps(f"{text[: _LONGEST - 3]}…" if size else text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in whole) + size


def key_text(path: Path, document: Any) -> str:
    """`monitor.threshold[1] ("accuracy_floor").min`: the path, with the names of its entries."""
    text, value = "", document
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            value = value[part] if isinstance(value, list | tuple) and 0 <= part < len(value) else None
            name = value.get("name") if isinstance(value, Mapping) else None
            if isinstance(name, str):
                text += f" ({quoted(name)})"
        else:
            key = part if _BARE.fullmatch(part) and len(part) <= _LONGEST else quoted(part)
            text += f".{key}" if text else key
            value = value.get(part) if isinstance(value, Mapping) else None
    return text


def shown(value: Any, path: Path = ()) -> str:
    """A value as it was found, shortened; secrets are left out, by the names of keys and in URLs.

    >>> shown([1.5, 2]), shown(True), shown("high"), shown("https://u:p@host/x"), shown("x", ("api_token",))
    ('a list', 'true', '"high"', '"https://…@host/x"', 'a value that is not shown')
    """
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        if not value:
            return "an empty list"
        return "a list of tables" if all(isinstance(entry, Mapping) for entry in value) else "a list"
    if any(isinstance(part, str) and _SECRET.search(part) for part in path):
        return "a value that is not shown"
    if isinstance(value, str):
        return quoted(re.sub(r"//\S*@", "//…@", re.sub(r"\?\S*", "?…", value) if "://" in value else value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else f"a number of {value.bit_length():,} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return f"the {'date' if isinstance(value, datetime.date) else 'time'} {value.isoformat()}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def like(word: Any, known: Iterable[str]) -> str:
    """`did you mean …?` where a known word is similar, else nothing.

    >>> like("thresold", ["threshold", "window"])
    'did you mean "threshold"?'
    """
    if not isinstance(word, str):
        return ""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(word[:200].casefold().replace("-", "_"), by_fold, n=1, cutoff=0.6)
    return f'did you mean "{by_fold[near[0]]}"?' if near else ""


def node_at(schema: Schema, path: Path, document: Any) -> Schema | None:
    """What the schema says about this path; the document says which kind of assertion an entry is."""
    node, value = schema, document
    for part in path:
        node = _resolved(schema, node, value)
        inner: Schema | None
        if isinstance(part, int):
            inner = node.get("items")
            value = value[part] if isinstance(value, list | tuple) and 0 <= part < len(value) else None
        else:
            others = node.get("additionalProperties")
            inner = node.get("properties", {}).get(part, others if isinstance(others, Mapping) else None)
            value = value.get(part) if isinstance(value, Mapping) else None
        if inner is None:
            return None
        node = inner
    return _resolved(schema, node, value)


def kinds_of(schema: Schema, node: Schema) -> tuple[str, list[str]]:
    """The key that tells the kinds of an entry apart, and the kinds."""
    choice = node["discriminator"]
    return choice["propertyName"], list(choice["mapping"])


def _resolved(schema: Schema, node: Schema, value: Any) -> Schema:
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        elif "discriminator" in node:
            choice = node["discriminator"]
            kind = value.get(choice["propertyName"]) if isinstance(value, Mapping) else None
            if not isinstance(kind, str) or kind not in choice["mapping"]:
                return node
            node = {"$ref": choice["mapping"][kind]}
        else:
            return node


def described(schema: Schema, node: Schema) -> str:
    """What is expected, by a node of the schema.

    >>> described({}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})
    'a number above 0 and below 1'
    """
    if "enum" in node:
        return "one of " + ", ".join(map(quoted, node["enum"]))
    if "const" in node:
        return quoted(node["const"])
    match node.get("type"):
        case "number":
            return "a number" + _bounds(node)
        case "integer":
            return "a whole number" + _bounds(node)
        case "boolean":
            return "true or false"
        case "string":
            return str(node.get("x-expected") or _text(node))
        case "array":
            inner = _resolved(schema, node.get("items", {}), None)
            if "discriminator" in inner or inner.get("type") == "object":
                return "a list of tables"
            return 'a list of names, such as ["loss"]'
        case _:
            return "a table"


def _bounds(node: Schema) -> str:
    if "minimum" in node and "maximum" in node:
        return f" from {node['minimum']:,.10g} to {node['maximum']:,.10g}"
    words = (
        ("exclusiveMinimum", "above"),
        ("minimum", "at least"),
        ("exclusiveMaximum", "below"),
        ("maximum", "at most"),
    )
    bounds = [f"{word} {node[key]:,.10g}" for key, word in words if key in node]
    text = " and ".join(bounds)
    return f" of {text}" if text.startswith("at ") else f" {text}" if text else ""


def _text(node: Schema) -> str:
    least, most = node.get("minLength", 0), node.get("maxLength")
    if most is not None:
        return f"text of {least} to {most} characters"
    return "non-empty text" if least else "text"
