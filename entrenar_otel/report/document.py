"""Document: a report as headings, texts, tables and pictures; Markdown and HTML are made of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Paragraph(NamedTuple):
    """A text, with a word or two in bold before it."""

    text: str
    lead: str = ""


class Bullets(NamedTuple):
    """A list; with `numbered`, in that order."""

    items: Sequence[str]
    numbered: bool = False


class Table(NamedTuple):
    """Rows of texts under a head; columns of `right` are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


class Code(NamedTuple):
    """A text as it is, such as a configuration."""

    text: str


class Picture(NamedTuple):
    """A curve: as SVG for a page, and in signs for a text."""

    title: str
    svg: str
    signs: str
    caption: str = ""


class CauseBlock(NamedTuple):
    """A cause: how likely, what, and what speaks for it."""

    likelihood: str
    title: str
    summary: str
    evidence: Sequence[str]


Block = Paragraph | Bullets | Table | Code | Picture | CauseBlock


@dataclass
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Document:
    """A title, what a hurried reader needs, and sections."""

    title: str
    state: str
    summary: tuple[str, ...]
    facts: tuple[str, ...]
    sections: list[Section]
    footer: str
