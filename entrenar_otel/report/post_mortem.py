"""Post-mortem: what became of a run, why probably, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_processors.plain import plain

from entrenar_otel._version import __version__
from entrenar_otel.errors import ConfigError
from entrenar_otel.report import convergence
from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.events import event_causes
from entrenar_otel.report.causes.ranking import causes_of, ranked
from entrenar_otel.report.document import Document
from entrenar_otel.report.facts import RunFacts, facts_of_run, when
from entrenar_otel.report.html import html_of
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.markdown import markdown_of
from entrenar_otel.report.parent import Parent, parents_of
from entrenar_otel.report.sections import sections_of
from entrenar_otel.report.story import recommendations_of, summary_of

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

    from entrenar_otel.lake import Lake

#: What `save` writes, by the end of the file's name.
FORMATS = (".md", ".html")


@dataclass(frozen=True)
class PostMortem:
    """The report of one run as it was at `made_at`: Markdown, a page of HTML, or numbers as JSON."""

    facts: RunFacts
    learning: Learning
    causes: tuple[Cause, ...]
    parents: tuple[Parent, ...]
    made_at: datetime

    @cached_property
    def summary(self) -> tuple[str, str, str]:
        """Three sentences: what happened, why probably, what to do."""
        return summary_of(self.facts, self.learning, self.causes)

    @cached_property
    def document(self) -> Document:
        """All of it, before it is Markdown or HTML."""
        view = self.facts.view
        known = (
            view.model,
            f"took {self.facts.duration}" if self.facts.duration and not view.is_going else "",
            f"attempt {view.attempts}" if view.attempts > 1 else "",
            f"{view.ranks} ranks" if view.ranks > 1 else "",
            f"{len(view.curves):,} series" if view.curves else "",
            "pruned: means of the curves are left" if view.is_pruned else "",
        )
        return Document(
            title=f"Post-mortem of run {self.facts.run_id}",
            state=view.state,
            summary=self.summary,
            facts=tuple(fact for fact in known if fact),
            sections=sections_of(self.facts, self.learning, self.causes, self.parents),
            footer=(
                f"Made {when(self.made_at)} by entrenar-otel {__version__} from what was recorded. Causes "
                "are read off curves and events: they are where to look first, and no proof."
            ),
        )

    def markdown(self) -> str:
        """The report as Markdown; curves are drawn in signs."""
        return markdown_of(self.document)

    def html(self) -> str:
        """The report as one page of HTML, which needs nothing else."""
        return html_of(self.document)

    def as_dict(self) -> dict[str, Any]:
        """Summary, causes and recommendations for programs: JSON's types only."""
        view = self.facts.view
        rows = convergence.rows_of(self.learning)
        document = {
            "run_id": self.facts.run_id,
            "state": view.state,
            "reason": view.reason,
            "made_at": self.made_at,
            "summary": list(self.summary),
            "causes": [cause.as_dict() for cause in self.causes],
            "recommendations": list(recommendations_of(self.facts, self.learning, self.causes)),
            "convergence": [dict(zip(convergence.HEAD, row, strict=True)) for row in rows],
            "alerts": len(self.facts.alerts),
            "warnings": sum(row["count"] for row in self.facts.warnings),
            "parents": [parent.version for parent in self.parents],
        }
        return {str(key): plain(value) for key, value in document.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as Markdown or HTML, by the name's end. Raises ConfigError of another, OSError."""
        form = Path(path).suffix.lower()
        if form not in FORMATS:
            name = os.fspath(path)
            raise ConfigError(f"expected a report's name that ends with .md or .html, got {name!r}")
        text = self.html() if form == ".html" else self.markdown()
        Path(path).write_text(text, encoding="utf-8")

    def __str__(self) -> str:
        return self.markdown()

    def __repr__(self) -> str:
        return f"<PostMortem of {self.facts.run_id}: {', '.join(c.name for c in self.causes) or 'no cause'}>"


def postmortem(lake: Lake | str | os.PathLike[str], run_id: str, config: Config | None = None) -> PostMortem:
    """The post-mortem of a run of a lake, as it is now; it may still be running.

    `config` is the renacer.toml whose budgets are judged and whose limits are drawn. Raises RunError of a
    run that is not in the lake, QueryError, LakeError.

    >>> from entrenar_otel import Monitor
    >>> with Monitor("toy", lake=tmp_path / "lake", quiet=True) as monitor:
    ...     for step in range(60):
    ...         monitor.log(loss=2.0 * 0.9**step, step=step)
    >>> report = postmortem(tmp_path / "lake", "toy")
    >>> report.causes, report.summary[1]
    ((), 'Nothing that was recorded speaks for a fault.')
    """
    from entrenar_otel.lake import Lake

    opened = lake if isinstance(lake, Lake) else Lake(lake)
    facts = facts_of_run(opened, run_id, config)
    learning = Learning.of(facts.view)
    return PostMortem(
        facts,
        learning,
        tuple(all_causes(facts, learning)),
        tuple(parents_of(opened, run_id)),
        datetime.now(UTC),
    )


def all_causes(facts: RunFacts, learning: Learning) -> Sequence[Cause]:
    """Causes that the curves speak for, and those that the run said itself."""
    return ranked([*causes_of(learning, facts.view.statistics), *event_causes(facts)])
