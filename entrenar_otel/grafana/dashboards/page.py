"""Page: panels in rows, and what all dashboards have: variables, annotations, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import table

from entrenar_otel.grafana.dashboards.panels import DATASOURCE
from entrenar_otel.grafana.promql import PROCESS, SHOWN, highest, latest, name_of, series

#: Columns of Grafana's grid.
WIDTH = 24
#: What narrows a query to the runs, models and ranks that are chosen.
CHOSEN = ('run_id=~"$run"', 'model_id=~"$model"', 'rank=~"$rank"')
#: Whose format the panels' options are of, which older ones read, too.
GRAFANA = "13.2.3"
_TAG = "entrenar-otel"
#: Of the dashboard *Run*.
RUN_UID = "entrenar-run"
#: The way there from a cell that has a run's id.
RUN_PAGE = f"/d/{RUN_UID}?var-run=${{__value.raw:percentencode}}&${{__url_time_range}}"


@dataclass(frozen=True)
class Row:
    """Panels side by side with their widths, all of one height; a `title` opens a section."""

    panels: Sequence[tuple[Any, int]]
    height: int = 8
    title: str = ""


def page(uid: str, title: str, description: str, rows: Sequence[Row], *, one_run: bool, ranks: bool) -> Any:
    """A dashboard. Panels have ids and places by their order, so that it is the same whenever it is made."""
    made = dashboard.Dashboard(title).uid(uid).description(description).tags([_TAG]).refresh("5s")
    made.time("now-1h", "now").timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR).version(1)
    for variable in _variables(one_run=one_run, ranks=ranks):
        made.with_variable(variable)
    for annotation in _annotations():
        made.annotation(annotation)
    link = dashboard.DashboardLink(_TAG).type(models.DashboardLinkType.DASHBOARDS).tags([_TAG])
    made.link(link.as_dropdown(False).keep_time(True).include_vars(False))
    number, y = 0, 0
    for row in rows:
        if row.title:
            number += 1
            place = models.GridPos(h=1, w=WIDTH, x=0, y=y)
            made.with_row(dashboard.Row(row.title).id(number).grid_pos(place))
            y += 1
        x = 0
        for panel, width in row.panels:
            number += 1
            made.with_panel(panel.id(number).grid_pos(models.GridPos(h=row.height, w=width, x=x, y=y)))
            x += width
        assert x == WIDTH, f"{title}: the panels of a row are {x} columns wide"
        y += row.height
    return _as_grafana_has_it(made.build())


def _variables(*, one_run: bool, ranks: bool) -> list[Any]:
    state = name_of("training.run.state")
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    model = _choice("model", "Model", f"label_values({state}, model_id)", many=True)
    run = _choice("run", "Run", f'label_values({state}{{model_id=~"$model"}}, run_id)', many=not one_run)
    rank = _choice("rank", "Rank", f'label_values({state}{{run_id=~"$run"}}, rank)', many=True)
    return [source, model, run, *((rank,) if ranks else (rank.hide(models.VariableHide.HIDE_VARIABLE),))]


def _choice(name: str, label: str, query: str, *, many: bool) -> Any:
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": name})
    )
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(many).definition(query)
    if many:
        every = models.VariableOption(text="All", value="$__all", selected=True)
        return made.include_all(True).all_value(".*").current(every).sort(models.VariableSort.NATURAL_ASC)
    return made.sort(models.VariableSort.NATURAL_DESC)  # ids that sort by time: the latest first


def _annotations() -> list[Any]:
    """Alerts for as long as they are active, and moments at which a run changed its state."""
    active = f"{latest(series('training.alert.active', *CHOSEN), *CHOSEN, by=(*SHOWN, 'name', 'level'))} == 1"
    state = series("training.run.state", *CHOSEN)
    changed = highest(f"changes({state}[1m])", by=PROCESS)
    changes = f"{latest(state, *CHOSEN)} and on (run_id, rank) {changed} > 0"
    return [
        _annotation("Alerts", active, "{{name}}", "{{run_id}} rank {{rank}}: {{level}}", "red"),
        _annotation("State changes", changes, "State changed", "{{run_id}} rank {{rank}}", "blue"),
    ]


def _annotation(name: str, expr: str, title: str, text: str, colour: str) -> Any:
    made = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(colour)
    made.title_format(title).text_format(text)
    return made.target(prometheus.Dataquery().expr(expr).ref_id("Anno").range().interval("5s"))


def _as_grafana_has_it(made: models.Dashboard) -> models.Dashboard:
    """Without what the SDK writes by itself and Grafana has not, and with the version that it is written for.

    A panel without one is an old one to Grafana, which brings its options up to date: those of an XY chart,
    which are new, do not survive it.
    """
    for variable in made.templating.list_val or ():
        variable.auto = variable.auto_min = variable.auto_count = None  # of intervals only
    for panel in made.panels or ():
        if isinstance(panel, models.Panel):
            panel.plugin_version = GRAFANA
        if isinstance(options := getattr(panel, "options", None), table.Options):
            options.footer = None  # a field's, since Grafana 12
    return made
