"""Panels: the kinds that the dashboards have, each with a unit, a description and words for an empty one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
    trend,
    xychart,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models import xychart as xychart_models

from entrenar_otel.grafana.links import PICTURE
from entrenar_otel.semconv import RUN_STATES

#: What a panel says that has no data.
NOT_REPORTED = "not reported by this run"
_COLOURS = {
    "starting": "blue", "running": "green", "paused": "orange", "stopped": "purple",
    "completed": "semi-dark-green", "crashed": "red",
}  # fmt: skip
_Panel = TypeVar("_Panel")
DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Query:
    """A query and what its series are called; `instant`: the value now; `table`: as rows with labels."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    heatmap: bool = False


@dataclass(frozen=True)
class Limits:
    """Lines that are drawn, and between which a value is normal."""

    low: float | None = None
    high: float | None = None

    def steps(self) -> list[models.Threshold]:
        """Grafana's, from the lowest."""
        steps: list[tuple[float | None, str]] = [(None, "green")]
        if self.low is not None:
            steps = [(None, "red"), (self.low, "green")]
        if self.high is not None:
            steps.append((self.high, "red"))
        return [models.Threshold(value=value, color=colour) for value, colour in steps]


NO_LIMITS = Limits()
EVERY_STEP = dashboard.DashboardLink("Every step: entrenar-otel plot").type(models.DashboardLinkType.LINK)
EVERY_STEP.url(PICTURE).target_blank(True)


def chart(
    title: str, unit: str, description: str, *queries: Query, limits: Limits = NO_LIMITS,
    empty: str = NOT_REPORTED, log: bool = False, low: float | None = None,
) -> timeseries.Panel:  # fmt: skip
    """Curves over time."""
    panel = timeseries.Panel().line_width(1).fill_opacity(0).show_points(common_models.VisibilityMode.AUTO)
    panel.legend(_legend()).tooltip(_tooltip()).span_nulls(False)
    if limits != NO_LIMITS:
        panel.thresholds_style(_dashed())
    if log:
        scale = common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    if low is not None:
        panel.min(low)
    return _dressed(panel, title, unit, description, queries, limits, empty)


def number(
    title: str, unit: str, description: str, query: Query, *, limits: Limits = NO_LIMITS, empty: str = "–",
    mappings: Sequence[Any] = (),
) -> stat.Panel:  # fmt: skip
    """One number, the latest."""
    panel = stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(common_models.BigValueGraphMode.NONE)
    panel.color_mode(
        common_models.BigValueColorMode.VALUE
        if limits != NO_LIMITS or mappings
        else common_models.BigValueColorMode.NONE
    )
    panel.mappings(list(mappings))
    return _dressed(panel, title, unit, description, (query,), limits, empty)


def timeline(
    title: str, description: str, *queries: Query, mappings: Sequence[Any], empty: str = NOT_REPORTED
) -> statetimeline.Panel:
    """States over time, a row for each series."""
    panel = statetimeline.Panel().merge_values(True).show_value(common_models.VisibilityMode.AUTO)
    panel.mappings(list(mappings)).legend(common.VizLegendOptions().show_legend(False)).row_height(0.8)
    return _dressed(panel, title, "none", description, queries, NO_LIMITS, empty)


def buckets(title: str, unit: str, description: str, query: Query) -> heatmap.Panel:
    """A histogram over time."""
    exponential = heatmap_models.HeatmapColorScale.EXPONENTIAL
    colour = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Turbo")
    panel = heatmap.Panel().calculate(False).color(colour.scale(exponential).exponent(0.5).steps(64))
    panel.y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1)
    return _dressed(panel, title, unit, description, (query,), NO_LIMITS, NOT_REPORTED)


def by_step(
    title: str, description: str, step: Query, *queries: Query, limits: Limits = NO_LIMITS
) -> trend.Panel:
    """Curves over the step of one run: joined by time, and of each step the latest.

    The step must rise from point to point or Grafana draws nothing; it stays while a run pauses or has ended.
    """
    panel = trend.Panel().x_field(step.legend).legend(_legend()).tooltip(_tooltip()).line_width(1)
    panel.fill_opacity(0).show_points(common_models.VisibilityMode.AUTO)
    if limits != NO_LIMITS:
        panel.thresholds_style(_dashed())
    _dressed(panel, title, "short", description, (step, *queries), limits, NOT_REPORTED)
    known = {"fieldName": step.legend, "config": {"id": "isNotNull", "options": {}}}
    latest = {query.legend: {"operation": "aggregate", "aggregations": ["lastNotNull"]} for query in queries}
    grouped = {step.legend: {"operation": "groupby", "aggregations": []}}
    renamed = {f"{query.legend} (lastNotNull)": query.legend for query in queries}
    return panel.transformations(
        [
            transformation("joinByField", byField="Time", mode="outer"),
            transformation("filterByValue", filters=[known], type="include", match="all"),
            transformation("groupBy", fields=grouped | latest),
            transformation("sortBy", sort=[{"field": step.legend}]),
            transformation("organize", excludeByName={}, indexByName={}, renameByName=renamed),
        ]
    ).links([EVERY_STEP])


def runs_by_step(title: str, description: str, step: Query, value: Query) -> xychart.Panel:
    """Points over the step, a series for each run."""
    at_step = xychart.XychartXYSeriesConfigX().matcher(xychart.MatcherConfig().id("byName").options("step"))
    panel = xychart.Panel().mapping(xychart_models.SeriesMapping.AUTO)
    panel.series([xychart.XYSeriesConfig().x(at_step)])  # and every other number over it
    panel.legend(_legend()).tooltip(_tooltip())
    _dressed(panel, title, "short", description, (step, value), NO_LIMITS, NOT_REPORTED)
    renamed = {"Value #A": "step", "Value #B": "value"}
    matrix = {"columnField": "run_id", "rowField": "step", "valueField": "value", "emptyValue": "null"}
    return panel.transformations(
        [
            transformation("merge"),
            transformation("organize", excludeByName={"Time": True}, indexByName={}, renameByName=renamed),
            transformation("groupingToMatrix", **matrix),
            transformation(
                "organize", excludeByName={}, indexByName={}, renameByName={"step\\run_id": "step"}
            ),
            transformation("sortBy", sort=[{"field": "step"}]),
        ]
    ).links([EVERY_STEP])


def rows(
    title: str, description: str, columns: Mapping[str, tuple[Query, str, Sequence[Any]]], *,
    names: Mapping[str, str], sort: str, descending: bool, links: Mapping[str, str], empty: str,
) -> table.Panel:  # fmt: skip
    """A table: a row for each set of labels (`names`: label → heading), a column for each query.

    `links`: where a column's cells lead to, by its heading.
    """
    panel = table.Panel().sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    panel.cell_options(common_models.TableAutoCellOptions())
    queries = [query for query, _, _ in columns.values()]
    letters = [chr(ord("A") + number) for number in range(len(queries))]
    _dressed(panel, title, "none", description, queries, NO_LIMITS, empty)
    for heading, (_, unit, mappings) in columns.items():
        values = [models.DynamicConfigValue("unit", unit)]
        if mappings:
            values.append(models.DynamicConfigValue("mappings", list(mappings)))
            values.append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(heading, values)
    for heading, url in links.items():
        link = {"title": "Open the run", "url": url}
        panel.override_by_name(heading, [models.DynamicConfigValue("links", [link])])
    value_names = ["Value"] if len(letters) == 1 else [f"Value #{letter}" for letter in letters]
    renamed = dict(names) | dict(zip(value_names, columns, strict=True))
    order = {name: number for number, name in enumerate(renamed)}
    return panel.transformations(
        [
            transformation("merge"),
            transformation("organize", excludeByName={"Time": True}, indexByName=order, renameByName=renamed),
        ]
    )


def transformation(kind: str, **options: Any) -> models.DataTransformerConfig:
    """One of Grafana's, by its id."""
    return models.DataTransformerConfig(id_val=kind, options=options)


def states() -> list[models.ValueMap]:
    """The numbers of `training_run_state` as words with colours."""
    options = {
        str(number): models.ValueMappingResult(text=name, color=_COLOURS[name], index=number)
        for name, number in RUN_STATES.items()
    }
    return [models.ValueMap(options=options)]


def yes_or_no(no: str, yes: str) -> list[models.ValueMap]:
    """0 and 1 as words, of which the second is red."""
    return [
        models.ValueMap(
            options={
                "0": models.ValueMappingResult(text=no, color="green", index=0),
                "1": models.ValueMappingResult(text=yes, color="red", index=1),
            }
        )
    ]


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).calcs(["lastNotNull"])
    legend.display_mode(common_models.LegendDisplayMode.LIST)
    return legend.placement(common_models.LegendPlacement.BOTTOM)


def _dashed() -> common.GraphThresholdsStyleConfig:
    """Limits as lines, with nothing between them."""
    return common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)


def _dressed(
    made: _Panel,
    title: str,
    unit: str,
    description: str,
    queries: Iterable[Query],
    limits: Limits,
    empty: str,
) -> _Panel:
    """What all panels have."""
    panel: Any = made  # each kind has methods of its own, with the same names
    panel.title(title).description(description).datasource(DATASOURCE).unit(unit).no_value(empty)
    config = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    panel.thresholds(config.steps(limits.steps()))
    for number, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).datasource(DATASOURCE)
        target.legend_format(query.legend or "__auto")
        target = target.instant() if query.instant else target.range()
        if query.table:
            target.format(prometheus_models.PromQueryFormat.TABLE)
        elif query.heatmap:
            target.format(prometheus_models.PromQueryFormat.HEATMAP)
        panel.with_target(target)
    return made
