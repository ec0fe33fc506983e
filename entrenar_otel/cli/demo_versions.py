"""The demo's versions: three of a model, one of them worse, and the question which change did it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from entrenar_processors.extras import MissingExtra
from rich.rule import Rule
from rich.text import Text

from entrenar_otel.cli.output import Console
from entrenar_otel.errors import EntrenarError
from entrenar_otel.monitor.monitor import Monitor

MODEL = "digits"
EPOCHS, BATCH = 6, 64
#: Runs of each version, which differ by their seed only: without them nobody knows what chance does.
SEEDS = range(3)


class Version(NamedTuple):
    """One that the demo trains: from which parent, with what change, on how many images, how fast."""

    number: str
    parents: tuple[str, ...]
    change: str | None
    images: int
    learning_rate: float

    @property
    def name(self) -> str:
        """MODEL@VERSION."""
        return f"{MODEL}@{self.number}"


VERSIONS = (
    Version("1.0.0", (), None, 400, 0.05),
    Version("1.1.0", (f"{MODEL}@1.0.0",), "add_training_data", 1_347, 0.05),
    Version("1.2.0", (f"{MODEL}@1.1.0",), "tune_hyperparams", 1_347, 0.004),
)


def train_version(version: Version, seed: int, parts: Sequence[Any], lake: str) -> tuple[str, float]:
    """Train one version from one seed; returns the run's id and its validation accuracy."""
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    x_train, x_validation, y_train, y_validation = parts
    model = MLPClassifier(
        (64,), solver="sgd", learning_rate_init=version.learning_rate, momentum=0.9, random_state=seed
    )
    generator, classes = np.random.default_rng(seed), np.unique(y_train)
    config = {"images": version.images, "learning_rate": version.learning_rate, "seed": seed}
    with Monitor(
        model_id=MODEL,
        version=version.number,
        config=config,
        parents=version.parents,
        change=version.change,
        lake=lake,
        quiet=True,
        settings_file=None,
    ) as monitor:
        accuracy = 0.0
        for _ in monitor.epochs(EPOCHS):
            order = generator.permutation(version.images)
            for rows in monitor.steps([order[at : at + BATCH] for at in range(0, len(order), BATCH)]):
                model.partial_fit(x_train[rows], y_train[rows], classes=classes)
                monitor.log(loss=model.loss_)
            predicted = model.predict_proba(x_validation)
            accuracy = float(np.mean(classes[predicted.argmax(axis=1)] == y_validation))
            monitor.log({"val/loss": log_loss(y_validation, predicted), "val/accuracy": accuracy})
    return monitor.run_id, accuracy


def show_versions(lake: str, parts: Sequence[Any], console: Console, command: str) -> None:
    """Train the versions, then name the change that made the last one worse, and where all of it lies."""
    console.print()
    console.print(Rule(f"three versions of a model, {len(SEEDS)} runs each", align="left"))
    runs: dict[str, str] = {}
    for version in VERSIONS:
        results = [train_version(version, seed, parts, lake) for seed in SEEDS]
        runs[version.name] = results[0][0]
        mean = np.mean([accuracy for _, accuracy in results])
        change = f", {version.change}" if version.change else ""
        settings = f"{version.images:,} images, learning rate {version.learning_rate}"
        console.print(f"{version.name}: validation accuracy {mean:.1%} ({settings}{change})", highlight=False)
    console.print()
    console.print(Rule(f"{command} lineage blame {VERSIONS[-1].name} --lake {lake}", align="left"))
    try:
        explain(lake, runs, console)
    except (MissingExtra, EntrenarError, OSError) as error:
        console.print(Text(f"there is no answer: {error}", style="yellow"))


def explain(lake: str, runs: dict[str, str], console: Console) -> None:
    """Print which change made the last version worse, and write graph, report and comparison down.

    `runs` has one run of each version. Raises MissingExtra, EntrenarError, OSError.
    """
    from entrenar_otel.cli.comparison import sections_of
    from entrenar_otel.cli.sections import markdown_of
    from entrenar_otel.compare import compare_runs
    from entrenar_otel.lineage import Lineage
    from entrenar_otel.lineage.render import render
    from entrenar_otel.report import postmortem

    worse, before = VERSIONS[-1].name, VERSIONS[-2].name
    lineage = Lineage.open(lake)
    console.print(str(lineage.find_regression_source(worse)), highlight=False, markup=False, soft_wrap=True)
    console.print()
    pictured = render(lineage, "svg", MODEL)
    comparison = markdown_of(sections_of(compare_runs(lineage.lake, before, worse)))
    for what, name, content in (
        ("the graph", "demo-lineage.svg", pictured),
        ("the report", "demo-report.html", postmortem(lineage.lake, runs[worse]).html()),
        ("the comparison", "demo-comparison.md", comparison),
    ):
        path = Path(name)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        console.print(f"{what}: {path.resolve()}", highlight=False, soft_wrap=True)
