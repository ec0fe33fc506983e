"""Commands to explain: how runs, versions and settings differ, where that comes from, what went wrong."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrenar_otel.cli.app import SETTINGS, Options, Run, open_lake
from entrenar_otel.cli.lineage import (
    Better,
    BlameFormat,
    LineageFormat,
    LineageGroup,
    format_of,
    print_blame,
    write_lineage,
)
from entrenar_otel.cli.output import Console, echo, print_json

if TYPE_CHECKING:
    from entrenar_otel.cli.sections import Section

commands = typer.Typer()
lineage_commands = typer.Typer(
    cls=LineageGroup, help="Show which version of a model was made from which, and what made one worse."
)


class CompareFormat(StrEnum):
    """What `compare` prints."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


class Value(StrEnum):
    """What of a run is compared."""

    FINAL = "final"
    LAST = "last"
    BEST = "best"


class Test(StrEnum):
    """By which test runs are compared."""

    WELCH = "welch"
    MANN_WHITNEY = "mann_whitney"
    BOOTSTRAP = "bootstrap"


@commands.command()
def compare(
    a: Annotated[
        str | None, typer.Argument(help="A run (its id, or the start of it), MODEL@VERSION, or latest.")
    ] = None,
    b: Annotated[str | None, typer.Argument(help="What is compared with it.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Only this metric; may be given several times.")
    ] = None,
    value: Annotated[
        Value, typer.Option(help="What of a run counts: the mean of its last tenth, the last, the best.")
    ] = Value.FINAL,
    test: Annotated[Test, typer.Option(help="The test, where there are several runs.")] = Test.WELCH,
    group_by: Annotated[
        list[str] | None,
        typer.Option("--group-by", help="config, config.NAME, version, model_id, git_commit or host."),
    ] = None,
    serving: Annotated[
        bool, typer.Option("--serving", help="Compare distributions: of training A, of production B.")
    ] = False,
    form: Annotated[CompareFormat, typer.Option("--format", "-f", help="The format.")] = CompareFormat.TEXT,
) -> None:
    """Compare two runs, or all runs of two versions: metrics with tests, curves, settings, environment.

    With --group-by, runs that differ in seeds only are samples of one configuration: without A and B those of
    the latest run's model. With --serving, A is what was trained, and B what production recorded.

    [dim]Examples:[/dim] entrenar-otel compare digits-7 digits-8
    entrenar-otel compare digits@1.0.0 digits@1.1.0 --format markdown
    entrenar-otel compare --group-by config.lr · entrenar-otel compare digits-7 production --serving
    """
    from entrenar_otel.cli.sections import print_markdown, print_sections

    if group_by:
        found, sections = _groups(group_by, [side for side in (a, b) if side], metric, value, test)
    elif a is None or b is None:
        raise typer.BadParameter("expected A and B, two runs or versions, or --group-by config.NAME")
    elif serving:
        found, sections = _serving(a, b, metric)
    else:
        found, sections = _sides(a, b, metric, value, test)
    if Options.json or form is CompareFormat.JSON:
        print_json(found.as_dict())
    elif form is CompareFormat.MARKDOWN:
        print_markdown(sections)
    else:
        print_sections(sections, Console())


@commands.command()
def report(
    run: Run = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file: a name that ends with .html or .md. Default: print it."
        ),
    ] = None,
    config: Annotated[
        Path,
        typer.Option("--config", help="The renacer.toml with thresholds and budgets; it need not exist."),
    ] = SETTINGS,
) -> None:
    """Write the post-mortem of a run: what happened, why probably, and what to do about it.

    [dim]Examples:[/dim] entrenar-otel report · entrenar-otel report digits-7 -o report.html
    """
    from entrenar_otel.report import postmortem
    from entrenar_otel.run.settings import RunSettings

    lake = open_lake()
    run_id = lake.find_run(run)
    made = postmortem(lake, run_id, RunSettings.find(config).file)
    if output is not None:
        made.save(output)
        echo(f"post-mortem of run {run_id} written to {output}")
    elif Options.json:
        print_json(made.as_dict())
    else:
        echo(made.markdown())


@commands.command()
def ab(
    test: Annotated[
        str | None, typer.Argument(help="The test's name, or a part of it; default: the only one.")
    ] = None,
) -> None:
    """Show what an A/B test says up to now: effect, always-valid interval, decision, guardrails.

    [dim]Examples:[/dim] entrenar-otel ab · entrenar-otel ab "digits@1.1.0 vs digits@1.2.0" --json
    """
    from entrenar_otel.serving.ab.recorded import recorded_results

    results = recorded_results(open_lake(), test)
    if Options.json:
        print_json([result.as_dict() for result in results])
        return
    for number, result in enumerate(results):
        echo(("\n" if number else "") + str(result))


def _sides(a: str, b: str, metric: list[str] | None, value: Value, test: Test) -> tuple[Any, list[Section]]:
    from entrenar_otel.cli.comparison import sections_of
    from entrenar_otel.compare.runs import compare_runs

    found = compare_runs(open_lake(), a, b, metrics=metric, value=value.value, test=test.value)
    return found, sections_of(found)


def _groups(
    group_by: list[str], sides: list[str], metric: list[str] | None, value: Value, test: Test
) -> tuple[Any, list[Section]]:
    from entrenar_otel.cli.groups import sections_of_groups
    from entrenar_otel.compare.groups import compare_groups

    names = [name.strip() for text in group_by for name in text.split(",")]
    found = compare_groups(open_lake(), names, *sides, metrics=metric, value=value.value, test=test.value)
    return found, sections_of_groups(found, was_asked=bool(metric))


def _serving(a: str, b: str, metric: list[str] | None) -> tuple[Any, list[Section]]:
    from entrenar_otel.cli.skew import sections_of_skew
    from entrenar_otel.compare.skew import compare_serving

    found = compare_serving(open_lake(), a, b, metrics=metric)
    return found, sections_of_skew(found)


@lineage_commands.command("show")
def show_lineage(
    model: Annotated[
        str | None, typer.Argument(help="A model; what its versions were made from is shown, too.")
    ] = None,
    form: Annotated[
        LineageFormat | None,
        typer.Option("--format", "-f", help="The format. Default: by the file's name, else text."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. Default: print it.")
    ] = None,
) -> None:
    """Show the versions of all models or of one; `show` may be left out.

    [dim]Examples:[/dim] entrenar-otel lineage show digits -o digits.png
    entrenar-otel lineage --format mermaid
    """
    from entrenar_otel.lineage.lineage import Lineage

    write_lineage(Lineage.open(open_lake()), model, format_of(form, output, Options.json), output)


@lineage_commands.command("blame")
def blame(
    version: Annotated[str, typer.Argument(help="The version that is worse, as MODEL@VERSION.")],
    metric: Annotated[
        str, typer.Option("--metric", "-m", help="The metric that it is worse in.")
    ] = "accuracy",
    tolerance: Annotated[
        float | None, typer.Option(help="What may be lost without being a regression, in the metric's unit.")
    ] = None,
    better: Annotated[
        Better | None, typer.Option(help="Which values are good, where the metric's name does not say.")
    ] = None,
    form: Annotated[BlameFormat, typer.Option("--format", "-f", help="The format.")] = BlameFormat.TEXT,
) -> None:
    """Name the change on the way to a version that made it worse, with the evidence.

    [dim]Examples:[/dim] entrenar-otel lineage blame digits@1.2.0
    entrenar-otel lineage blame digits@1.2.0 --metric latency --tolerance 0.002
    """
    from entrenar_otel.lineage.lineage import Lineage

    found = Lineage.open(open_lake()).find_regression_source(
        version, metric, tolerance=tolerance, better=None if better is None else better.value
    )
    print_blame(found, BlameFormat.JSON if Options.json else form)


commands.add_typer(lineage_commands, name="lineage")
