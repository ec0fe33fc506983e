"""Lines of keys: as tomllib sees the text, to the last key, or none at all."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors.config.lines import line_of, lines_of
from hypothesis import given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[2] / "data" / "renacer"

TEXT = '''# a comment with [x] and "
[monitor]      # x = 1
lake = """
[monitor.fake]
a = "" \\""" """""
'quoted key'.b . "c.d" = \'\'\'
[x]\'\'\'\'
times = [ 2026-01-01 12:00:00, # two ]
  12:00:00, [ { a = 1, "]" = [] } ],
]

[[assertion]]
name = "first"
[assertion.inner]
x = { y.z = -1e3, w = "}" }
[[assertion]]
  [[assertion.deep]]
  k = true
[ monitor . "zscore" ]
a.b.c = 1
a.d = 2
'''


def test_every_form_of_toml() -> None:
    """Comments, all strings, dotted and quoted keys, lists over lines, inline tables, lists of tables."""
    lines = lines_of(TEXT, tomllib.loads(TEXT))
    assert {".".join(map(str, path)): line for path, line in lines.items()} == {
        "monitor": 2, "monitor.lake": 3, "monitor.quoted key": 6, "monitor.quoted key.b": 6,
        "monitor.quoted key.b.c.d": 6, "monitor.times": 8, "monitor.times.0": 8, "monitor.times.1": 9,
        "monitor.times.2": 9, "monitor.times.2.0": 9, "monitor.times.2.0.a": 9, "monitor.times.2.0.]": 9,
        "assertion": 12, "assertion.0": 12, "assertion.0.name": 13, "assertion.0.inner": 14,
        "assertion.0.inner.x": 15, "assertion.0.inner.x.y": 15, "assertion.0.inner.x.y.z": 15,
        "assertion.0.inner.x.w": 15, "assertion.1": 16, "assertion.1.deep": 17, "assertion.1.deep.0": 17,
        "assertion.1.deep.0.k": 18, "monitor.zscore": 19, "monitor.zscore.a": 20, "monitor.zscore.a.b": 20,
        "monitor.zscore.a.b.c": 20, "monitor.zscore.a.d": 21,
    }  # fmt: skip
    assert line_of(lines, ("assertion", 1, "deep", 0, "missing")) == 17
    assert line_of(lines, ("other",)) is None


def test_the_corpus_has_lines() -> None:
    """Every file of it that is TOML has a line for each of its keys."""
    for path in CORPUS.rglob("*.toml"):
        text = path.read_bytes().decode("utf-8-sig")
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError):
            continue
        assert bool(lines_of(text, document)) == bool(document), path


@pytest.mark.parametrize("text", ["a = 1\nb = 2", "a = ", "[a", 'a = "x', "= 1", ""])
def test_none_rather_than_wrong(text: str) -> None:
    """Where text and document do not agree, there are no lines."""
    assert lines_of(text, {"a": 1}) == {}


_key = st.text(max_size=5).map(lambda text: json.dumps(text.replace("\x7f", ""), ensure_ascii=False))
_value = st.recursive(
    st.sampled_from(["1", "true", "1.5e3", "nan", '"a\\"[#"', "'{'", '"""x\n"#"""', "'''\n\n'''", "12:00:00"])
    | st.just("1979-05-27 07:32:00Z"),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[ # ]\n{', '.join(parts)}\n]")
        | st.lists(st.tuples(_key, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(["", "[t{}]\n", "[[u]]\n", "[[u.v]]\n"]), _key, _value), max_size=6)
)
def test_any_toml_has_a_line_for_each_key(pairs: list[tuple[str, str, Any]]) -> None:
    """What tomllib takes is understood completely, and a key stands on the line that is said."""
    text = "".join(
        f"{header.format(i)}{key[:-1]}{i}{key[-1]} = {value}\n"
        for i, (header, key, value) in enumerate(pairs)
    )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = lines_of(text, document)
    assert bool(lines) == bool(document)
    rows = text.split("\n")
    for path, line in lines.items():
        if isinstance(path[-1], str) and path[-1].isascii() and path[-1].isalnum():
            assert path[-1] in rows[line - 1]
