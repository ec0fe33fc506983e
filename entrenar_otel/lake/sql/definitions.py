"""Definitions: what the views say of the rows that were recorded, in SQL."""

from __future__ import annotations

import pyarrow as pa

from entrenar_otel import semconv
from entrenar_otel.lake.sql.severity import severity, severity_number
from entrenar_otel.lake.sql.statistics import KEPT, best, columns
from entrenar_otel.lake.store.files import sql_type

_PROCESS = "run_id, attempt, rank"


def create(view: str, select: str) -> str:
    """The statement that makes a view."""
    return f"CREATE TEMP VIEW {view} AS {select}"


def unread(view: str, schema: pa.Schema) -> str:
    """Rows of a view that a statement does not name: its columns are known, and reading it is an error."""
    names = ", ".join(f'CAST(NULL AS {sql_type(field.type)}) AS "{field.name}"' for field in schema)
    return (
        f"SELECT {names} WHERE error('the view {view} is read only where its name stands in the statement')"
    )


#: `rows` are those of the files and of live segments.
EVENTS_VIEW = f"""
SELECT * REPLACE ({severity("severity")} AS severity), {severity_number("severity")} AS severity_number
FROM ({{rows}})
"""

#: `rows` are the run records as they are seen.
RUNS_VIEW = """
SELECT * REPLACE (coalesce(TRY_CAST(config AS JSON), to_json(config)) AS config),
    greatest(0, date_diff(
        'microseconds', started_at,
        coalesce(ended_at, CASE WHEN state = 'running' THEN now() END)
    ) / 1e6) AS duration_seconds
FROM ({rows})
"""

#: Samples as if a resumed run had never been interrupted: of what several attempts recorded at one place in
#: the loop, what the latest did. The place is epoch and batch, and the step where one of them is missing: an
#: attempt may count its steps from 0 again.
METRICS_LATEST_VIEW = """
WITH resumed AS (SELECT run_id FROM metrics GROUP BY run_id HAVING min(attempt) < max(attempt))
FROM metrics ANTI JOIN resumed USING (run_id)
UNION ALL
FROM metrics SEMI JOIN resumed USING (run_id)
QUALIFY coalesce(step, epoch, batch) IS NULL OR attempt = max(attempt) OVER (PARTITION BY
    run_id, rank, metric, tags, epoch, batch, CASE WHEN epoch IS NULL OR batch IS NULL THEN step END)
"""

#: What is left of pruned segments, a row of each series and stretch of them; of all others it is computed.
SUMMARIES_VIEW = f"""
SELECT *, {best("min", "max")} AS best, {best("min_step", "max_step")} AS best_step FROM (
    {{rows}}
    UNION ALL
    SELECT {_PROCESS}, metric, tags, {columns(*KEPT)} FROM {{unpruned}} GROUP BY {_PROCESS}, metric, tags
)
"""

#: Alerts, one row an episode, from their events; and the start and end of each run, as INFO.
ALERTS_VIEW = f"""
SELECT * REPLACE ({severity("level")} AS level), {severity_number("level")} AS severity_number FROM (
WITH told AS (
    -- of two in one microsecond, the later has counted more
    SELECT *, attributes['episode'] AS episode, attributes['state'] AS state,
        (timestamp, coalesce(try_cast(attributes['count'] AS BIGINT), 0)) AS place
    FROM events WHERE name = 'training.alert'
), episodes AS (
    SELECT
        run_id, attempt, rank, episode,
        coalesce(min(timestamp) FILTER (state = 'firing'), min(timestamp)) AS started_at,
        max(timestamp) FILTER (state = 'resolved') AS ended_at,
        arg_max(severity, place) FILTER (state = 'firing') AS level,
        -- the state comes before the time: a clock may have been set back meanwhile
        coalesce(
            arg_max(attributes, place) FILTER (state = 'resolved'), arg_max(attributes, place)
        ) AS last,
        coalesce(
            arg_min(attributes, place) FILTER (state = 'firing'), arg_min(attributes, place)
        ) AS first,
        max(attributes['incident']) AS incident
    FROM told GROUP BY run_id, attempt, rank, episode
), acted AS (
    SELECT
        run_id, attempt, rank, attributes['episode'] AS episode,
        max(attributes['incident']) AS incident,
        arg_max(coalesce(attributes['outcome'], attributes['action']), timestamp) AS outcome
    FROM events WHERE name = 'training.action' GROUP BY ALL
)
SELECT
    started_at, ended_at, run_id, attempt, rank, first['name'] AS name,
    coalesce(level, 'INFO') AS level, last['source'] AS source, last['action'] AS action,
    CASE WHEN ended_at IS NULL THEN 'firing' ELSE 'resolved' END AS state,
    first['summary'] AS summary, first['metric'] AS metric,
    map_from_entries(
        [(e.key[5:], e.value) FOR e IN map_entries(first) IF starts_with(e.key, 'tag.')]
    ) AS tags,
    try_cast(first['epoch'] AS INTEGER) AS epoch, try_cast(first['batch'] AS INTEGER) AS batch,
    try_cast(first['step'] AS BIGINT) AS step, try_cast(first['value'] AS DOUBLE) AS value,
    try_cast(first['expected'] AS DOUBLE) AS expected, try_cast(first['score'] AS DOUBLE) AS score,
    try_cast(last['peak'] AS DOUBLE) AS peak, try_cast(last['count'] AS BIGINT) AS count,
    coalesce(acted.incident, episodes.incident) AS incident, outcome, episode
FROM episodes LEFT JOIN acted USING (run_id, attempt, rank, episode)
UNION ALL
SELECT
    timestamp, timestamp, run_id, attempt, rank, replace(name[10:], '.', '_'),
    'INFO', 'run', 'log', 'resolved',
    CASE name WHEN 'training.run.started' THEN 'run started'
        ELSE 'run ended: ' || coalesce(attributes['training.run.state'], '?') END,
    NULL, MAP {{}}, epoch, batch, step, NULL, NULL, NULL, NULL, 1, NULL, NULL, name
FROM events WHERE name IN ('training.run.started', 'training.run.ended')
)
"""

#: What was said of versions of models, a row each: the span of the last attempt of every run that made one,
#: and what was added by hand (`rows`).
LINEAGE_VIEW = f"""
WITH made AS (
    SELECT *, from_json(attributes['{semconv.MODEL_PARENTS}'], '["VARCHAR"]') AS parent_ids,
        from_json(attributes['{semconv.MODEL_CHANGES}'], '["VARCHAR"]') AS changes
    FROM spans WHERE name = '{semconv.MODEL_VERSION}' AND status = 'OK'
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY attempt DESC, rank, end_time DESC) = 1
)
SELECT
    attributes['{semconv.MODEL_ID}'] AS model_id, attributes['{semconv.MODEL_VERSION_NAME}'] AS version,
    try_cast(attributes['{semconv.MODEL_ACCURACY}'] AS DOUBLE) AS accuracy, end_time AS created_at,
    attributes['{semconv.MODEL_CONFIG_HASH}'] AS config_hash,
    attributes['{semconv.MODEL_CONFIG_GROUP}'] AS config_group,
    map_from_entries([
        (e.key[{len(semconv.MODEL_METRIC) + 1}:], try_cast(e.value AS DOUBLE))
        FOR e IN map_entries(attributes) IF starts_with(e.key, '{semconv.MODEL_METRIC}')
    ]) AS metrics,
    list_concat(
        [{{{{
            'parent_id': l.attributes['{semconv.LINK_PARENT}'],
            'change_type': l.attributes['{semconv.LINK_CHANGE}'],
            'trace_id': l.trace_id, 'span_id': l.span_id
        }}}} FOR l IN links],
        [{{{{
            'parent_id': parent_ids[i], 'change_type': nullif(changes[i], ''),
            'trace_id': CAST(NULL AS VARCHAR), 'span_id': CAST(NULL AS VARCHAR)
        }}}} FOR i IN generate_series(1, coalesce(len(parent_ids), 0))
            IF NOT list_contains([l.attributes['{semconv.LINK_PARENT}'] FOR l IN links], parent_ids[i])]
    ) AS parents,
    run_id, attempt, attributes['training.run.state'] AS state,
    attributes['vcs.ref.head.revision'] AS git_commit, trace_id, span_id, parent_span_id, 'run' AS source
FROM made
UNION ALL BY NAME
FROM ({{rows}})
"""
