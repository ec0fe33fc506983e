"""Markdown: a report as text that GitHub, GitLab and a terminal show; curves are drawn in signs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from entrenar_otel.redact import printable_line, printable_text
from entrenar_otel.report.document import (
    Block,
    Bullets,
    CauseBlock,
    Code,
    Document,
    Paragraph,
    Picture,
    Table,
)

#: What would be formatting, a link, HTML or a column.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$])")
_FENCE = re.compile(r"`{3,}")


def markdown_of(document: Document) -> str:
    """The report; text from the run is escaped."""
    parts = [f"# {plain(document.title)}", " ".join(plain(text) for text in document.summary)]
    parts.append(" · ".join(plain(fact) for fact in document.facts))
    for section in document.sections:
        parts.append(f"## {plain(section.title)}")
        parts += [text for block in section.blocks for text in _block(block)]
    parts.append(f"---\n{plain(document.footer)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    r"""Text on one line that is nothing but text.

    >>> plain("loss|<b>*x*")
    'loss\\|\\<b\\>\\*x\\*'
    """
    return _SPECIAL.sub(r"\\\1", printable_line(text))


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text, lead):
            yield f"**{plain(lead)}** {plain(text)}" if lead else plain(text)
        case Bullets(items, numbered):
            yield "\n".join(
                f"{f'{at}.' if numbered else '-'} {plain(item)}" for at, item in enumerate(items, 1)
            )
        case Table(head, rows, right):
            yield _table(head, rows, right)
        case Code(text):
            yield _fenced(text)
        case Picture(title, _, signs, caption):
            yield f"**{plain(title)}**" + (f" – {plain(caption)}" if caption else "")
            yield _fenced(signs)
        case CauseBlock(likelihood, title, summary, evidence):
            yield f"### {plain(title)} ({plain(likelihood)})"
            yield plain(summary)
            if evidence:
                yield "\n".join(f"- {plain(item)}" for item in evidence)


def _fenced(text: str) -> str:
    """A block of code that the text in it cannot end."""
    fence = "`" * max(3, 1 + max((len(found) for found in _FENCE.findall(text)), default=0))
    return f"{fence}text\n{printable_text(text).rstrip()}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    lines = [
        "| " + " | ".join(plain(name) for name in head) + " |",
        "| " + " | ".join("---:" if at in right else "---" for at in range(len(head))) + " |",
    ]
    lines += ["| " + " | ".join(plain(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
