"""HTML: a report as one file that opens anywhere: no script, nothing from elsewhere, light and dark."""

from __future__ import annotations

import html
from collections.abc import Iterator
from itertools import groupby

from entrenar_otel.redact import printable_line, printable_text
from entrenar_otel.report.document import (
    Block,
    Bullets,
    CauseBlock,
    Code,
    Document,
    Paragraph,
    Picture,
    Section,
    Table,
)

#: Nothing is fetched and nothing runs, whatever a name in the report may say.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2128;--dim:#59636e;--ground:#fff;--card:#f6f8fa;--line:#d8dee4;
--accent:#2a6fb8;--good:#1a7f37;--warn:#9a6700;--bad:#c62828}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ec;--dim:#9aa4af;--ground:#14181d;--card:#1d232a;
--line:#343c45;--accent:#6cb0f5;--good:#56c271;--warn:#e0b040;--bad:#ff7b72}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2.2rem 1.4rem 4rem;background:var(--ground);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.4rem 0 .7rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1.02rem;margin:0 0 .25rem}
p{margin:.5rem 0}
.facts{color:var(--dim);margin:.2rem 0 1.2rem}
.badge{display:inline-block;padding:.05rem .6rem;border-radius:1rem;font-size:.85rem;font-weight:600;
border:1px solid currentColor;margin-right:.4rem}
.completed{color:var(--good)}.running,.paused{color:var(--accent)}.stopped,.unknown{color:var(--warn)}
.crashed{color:var(--bad)}
.summary{background:var(--card);border-left:4px solid var(--accent);border-radius:.4rem;
padding:.7rem 1.1rem;font-size:1.06rem}
.summary p{margin:.35rem 0}
.cause{border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1.1rem;margin:.8rem 0}
.cause p{margin:.1rem 0 .4rem}
.cause ul{margin:.3rem 0 0;padding-left:1.2rem;color:var(--dim)}
.very.likely{color:var(--bad)}.likely{color:var(--warn)}.possible{color:var(--dim)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;margin:.6rem 0}
th,td{padding:.32rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word}
.keys td:first-child{color:var(--dim);white-space:nowrap;width:1%;padding-right:1.5rem}
th{color:var(--dim);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
pre{background:var(--card);border-radius:.4rem;padding:.7rem 1rem;overflow-x:auto;font-size:.85rem;
line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(20rem,1fr));gap:1rem}
figure{margin:0;max-width:38rem;background:var(--card);border-radius:.5rem;padding:.6rem .7rem}
figure svg{width:100%;height:auto;display:block}
figcaption{color:var(--dim);font-size:.85rem;padding:.2rem .3rem 0}
footer{color:var(--dim);font-size:.85rem;margin-top:3rem;border-top:1px solid var(--line);padding-top:.8rem}
@media print{body{max-width:none}.cause,figure,table{break-inside:avoid}}
"""


def html_of(document: Document) -> str:
    """The page. Everything that a run may have named is escaped."""
    summary = "".join(f"<p>{_text(text)}</p>" for text in document.summary)
    facts = " · ".join(_text(fact) for fact in document.facts)
    sections = "".join(_section(section) for section in document.sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{_text(document.title)}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{_text(document.title)}</h1>"
        f'<p class="facts">{_badge(document.state)}{facts}</p>'
        f'<div class="summary">{summary}</div></header><main>{sections}</main>'
        f"<footer>{_text(document.footer)}</footer></body></html>\n"
    )


def _section(section: Section) -> str:
    parts = [f"<section><h2>{_text(section.title)}</h2>"]
    for is_picture, blocks in groupby(section.blocks, lambda block: isinstance(block, Picture)):
        inner = "".join(part for block in blocks for part in _block(block))
        parts.append(f'<div class="pictures">{inner}</div>' if is_picture else inner)
    return "".join(parts) + "</section>"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text, lead):
            yield f"<p>{f'<strong>{_text(lead)}</strong> ' if lead else ''}{_text(text)}</p>"
        case Bullets(items, numbered):
            tag = "ol" if numbered else "ul"
            yield f"<{tag}>{''.join(f'<li>{_text(item)}</li>' for item in items)}</{tag}>"
        case Table(head, rows, right):
            names = "".join(_cell("th", name, at in right) for at, name in enumerate(head))
            body = "".join(
                f"<tr>{''.join(_cell('td', cell, at in right) for at, cell in enumerate(row))}</tr>"
                for row in rows
            )
            if any(head):
                inner = f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"
            else:
                inner = f'<table class="keys"><tbody>{body}</tbody></table>'
            yield f'<div class="wide">{inner}</div>'
        case Code(text):
            yield f"<pre>{html.escape(printable_text(text))}</pre>"
        case Picture(title, svg, _, caption):
            told = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
            yield f'<figure role="img" aria-label="{_text(title)}">{svg}{told}</figure>'
        case CauseBlock(likelihood, title, summary, evidence):
            items = "".join(f"<li>{_text(item)}</li>" for item in evidence)
            yield (
                f'<div class="cause"><h3>{_badge(likelihood)}{_text(title)}</h3><p>{_text(summary)}</p>'
                f"{f'<ul>{items}</ul>' if items else ''}</div>"
            )


def _badge(text: str) -> str:
    return f'<span class="badge {_class(text)}">{_text(text)}</span>'


def _cell(tag: str, text: str, is_number: bool) -> str:
    attribute = ' class="n"' if is_number else ""
    return f"<{tag}{attribute}>{_text(text)}</{tag}>"


def _class(text: str) -> str:
    """Our own words as classes; nobody else's."""
    return " ".join(word for word in text.split() if word.isascii() and word.isalpha())


def _text(text: str) -> str:
    return html.escape(printable_line(text))
