"""Ask the real OpenTelemetry Collector how it names things for Prometheus, and write down its answers.

    python scripts/collector_names.py path/to/otelcol

needs opentelemetry-exporter-otlp (the dev extra) and a Collector v0.155 with the receiver `otlp` and
the exporter `prometheus` (collector-config/ says how one is built). It runs the Collector on loopback,
once per kind of instrument so that no two kinds can clash, with the exporter's default settings, sends a
corpus of names, units, attribute keys and values, scrapes its page, and rewrites
tests/data/collector_prometheus_names.json. The tests hold entrenar_otel/prometheus to that file.

Points are made by hand rather than through instruments: the SDK refuses names that other languages'
SDKs let through, and drops NaN. Of the exporter's settings, `translation_strategy`,
`add_metric_suffixes`, `namespace`, `without_scope_info` and `resource_to_telemetry_conversion` change
names or labels; none is set here. So does the feature gate
pkg.translator.prometheus.PermissiveLabelSanitization, which is off by default.
"""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.parser import text_string_to_metric_families

OUTPUT = Path(__file__).resolve().parents[1] / "tests/data/collector_prometheus_names.json"
CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}}}}}}}
exporters: {{prometheus: {{endpoint: "127.0.0.1:{http}"}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [otlp], exporters: [prometheus]}}}}
"""
KINDS = ("gauge", "counter", "up_down_counter", "histogram")
#: What the rows of each part hold; null: the Collector does not show such a series.
COLUMNS = {"names": ["name", "unit", *KINDS], "labels": ["key", "label"],
           "values": ["value or its repr", "Python type", "label value"],
           "points": ["value or its repr", "as text"]}  # fmt: skip
#: Each with FEW_UNITS.
NAMES = (
    *("loss", "training.loss", "training.val-loss", "training.eval/loss", "Training.Loss", "a_b.c-d/e"),
    *("x_total", "x.total", "total", "total.x", "x_total_total", "xtotal", "x.Total", "x_total_y"),
    *("x_seconds", "x.seconds.y", "seconds", "x_seconds_total", "x_total_seconds", "xseconds", "x_s"),
    *("x_ratio", "x.ratio.y", "ratio", "x_bytes", "x.percent", "x_per_second", "bytes_per_second"),
    *("1st", "9", "4.2", "_x", "__x", "x_", "x__y", "x..y", "x._-/y", ".x.", "a:b", ":x", "x:"),
    *("with space", "tab\tx", "ü", "损失", "loss.损失", "x%", "a{b}", "_", "__", "", "é1", "1", "x1", "A"),
    *("q_count", "q_sum", "q_bucket", "q_created", "q_info", "target_info", "up", "a.b.c.d.e.f.g.h"),
    *("\U0001d7d9x", "\u0661x", "x\u0661"),
)
FEW_UNITS = ("", "1", "s", "By", "{sample}", "By/s")
#: Each with FEW_NAMES.
UNITS = (
    *("", "1", "s", "ms", "us", "ns", "min", "h", "d", "w", "mo", "y", "By", "KiBy", "MiBy", "GiBy", "TiBy"),
    *("KBy", "kBy", "MBy", "GBy", "TBy", "PBy", "B", "b", "bit", "m", "V", "A", "J", "W", "g", "kg", "K"),
    *("%", "Cel", "Hz", "GHz", "{sample}", "{token}", "tokens", "requests", "{}", "a{b}", "{a}b", "1{x}"),
    *("m/s", "By/s", "{request}/s", "tokens/s", "{token}/{step}", "1/s", "%/s", "By/min", "By/h", "By/d"),
    *("By/w", "By/mo", "By/y", "By/m", "J/{step}", "/s", "s/", "/", "/{x}", "m/s/s", "m/s2", "m.s-2", "s2"),
    *(" s ", " s / h ", "s s", "µs", "Ω", "°C", "__", "_s_", "_", "s_", "_s", "a__b", "a-b", "a_/b", "a/_b"),
    *("a/b_", "a/_", "a/%", "%%", "s%", "$", "€/h", "seconds", "second", "ratio", "total", "Total", "x", "y"),
    *("x_y", "per_second", "x/y", "a/x", "10*3", "S", "1 ", "01", "2", "dB", "[degF]", "Hz/s", "a:b", "\n"),
)
FEW_NAMES = ("v", "x.y", "x_total", "x.seconds", "x_ratio")
#: Not in it: keys that the Collector adds itself (otel_scope_*, and job and instance where the
#: resource names a service); a point that has one of them too is not shown at all.
KEYS = (
    *("split", "parameter_group", "http.method", "a-b", "a/b", "a b", "a:b", "A.B", "1x", "9", "4.2", "_x"),
    *("__x", "__x__", "___x", "_", "__", "x_", "x__", "a__b", "a..b", "a._b", "a.-b", "ü", "xü", "损失", "%"),
    *("%x", "x%", ".x", "-x", "x.", "{x}", "a\nb", 'a"b', "le", "quantile", "instance", "name", "x1"),
    *("run_id", "_1", "__name__", "__1", "é.é"),
    *("\u0661", "x\u0661", "1.a-b", "a" * 130),
)
VALUES: tuple[Any, ...] = (
    *(True, False, 0, 1, -1, 2**53 + 1, -(2**63), 2**63 - 1, 0.0, -0.0, 1.0, 0.5, -1.5, 1e-3, 1e-6, 9.9e-7),
    *(1e-7, 1e-10, 1e15, 1e16, 1e20, 1e21, 1.5e21, 1e100, 1e300, 5e-324, 1.7976931348623157e308, 1 / 3, 0.1),
    *(123456789.125, math.nan, math.inf, -math.inf, "", "text", " x ", "ü损", 'say "hi"', "back\\slash"),
    *("two\nlines", "tab\tx", "cr\rx", "true", "1.0", "\x00", "\x7f", "<&>", "\u2028", "e\u0301"),
    *(
        [],
        ["a", "b"],
        ["<&>", 'q"', "\\", "\n", "\t\r", "ü损", "\x01\x7f", "\u2028", "\x08\x0c"],
        [True, False],
    ),
    *(
        [1, 2, -3],
        [1.0, 0.5, 1e21, 1e-7, 1e20, -0.0],
        [""],
        ("a",),
        {"b": 1, "a": [1, "x"]},
        {},
        b"\x00\xffab",
    ),
    *([["a"], [1]], [None, "a"], {"z": {"y": True}}, None, [math.nan], [b"ab"], {"é": 1, "z": 2, "Z": 3}),
)
POINTS = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0, 1, 2**53 + 1, 0.5, 5e-324, 1.7976931348623157e308, 1 / 3),
    *(1e6, 1e-6, 1e20, 1e21, 1e22, 1234567.0, 1e-5, 123456789.0),
)
_CASE = re.compile(r'\bcase="(\d+)"')


def main() -> None:
    """Measure everything and write the corpus."""
    binary = sys.argv[1]
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()
    names = [(name, unit) for name in NAMES for unit in FEW_UNITS]
    names = list(dict.fromkeys([*names, *((name, unit) for name in FEW_NAMES for unit in UNITS)]))
    found: dict[str, list[Any]] = {"names": [[name, unit] for name, unit in names]}
    found |= {"labels": [], "values": [], "points": []}
    for kind in KINDS:
        cases = [(metric(kind, name, unit, {"case": str(i)})) for i, (name, unit) in enumerate(names)]
        shown = ask(binary, cases)
        for i, row in enumerate(found["names"]):
            row.append(family(shown[i][0], kind) if i in shown else None)
    for i, got in _each(binary, [{"case": str(i), key: "v"} for i, key in enumerate(KEYS)]):
        labels = [label for label, value in got[1].items() if value == "v"] if got else []
        found["labels"].append([KEYS[i], labels[0] if labels else None])
    for i, got in _each(binary, [{"case": str(i), "k": value} for i, value in enumerate(VALUES)]):
        found["values"].append(
            [_plain(VALUES[i]), type(VALUES[i]).__name__, got[1].get("k", "") if got else None]
        )
    points = [metric("gauge", "p", "", {"case": str(i)}, value) for i, value in enumerate(POINTS)]
    shown = ask(binary, points)
    found["points"] = [[_plain(value), shown[i][2]] for i, value in enumerate(POINTS)]
    lines = [f'"collector": {json.dumps(" ".join(version))}', f'"columns": {json.dumps(COLUMNS)}']
    for part, rows in found.items():
        body = ",\n".join(json.dumps(row) for row in rows)
        lines.append(f'"{part}": [\n{body}\n]')
    OUTPUT.write_text("{" + ",\n".join(lines) + "}\n")
    print({part: len(rows) for part, rows in found.items()})


def metric(kind: str, name: str, unit: str, attributes: Any, value: float = 1.0) -> Metric:
    """One metric of one point."""
    now = time.time_ns()
    if kind == "histogram":
        point = HistogramDataPoint(attributes, now, now, 3, 4.5, [1, 1, 1], [0.5, 1.0], 0.1, 3.0)
        return Metric(name, "help", unit, Histogram([point], AggregationTemporality.CUMULATIVE))
    number = NumberDataPoint(attributes, now, now, value)
    if kind == "gauge":
        return Metric(name, "help", unit, Gauge([number]))
    return Metric(name, "help", unit, Sum([number], AggregationTemporality.CUMULATIVE, kind == "counter"))


def family(sample: str, kind: str) -> str:
    """The name of the family to which a sample's line belongs."""
    return re.sub("_(bucket|sum|count)$", "", sample) if kind == "histogram" else sample


def _each(binary: str, attributes: list[Any]) -> Iterator[tuple[int, Any]]:
    shown = ask(binary, [metric("gauge", f"m{i}", "", one) for i, one in enumerate(attributes)])
    return ((i, shown.get(i)) for i in range(len(attributes)))


def ask(binary: str, metrics: list[Metric]) -> dict[int, tuple[str, dict[str, str], str]]:
    """What a fresh Collector shows: case → the first sample's name, labels and value as text."""
    with collector(binary) as (grpc, http):
        exporter = OTLPMetricExporter(f"127.0.0.1:{grpc}", insecure=True, timeout=10)
        scope = ScopeMetrics(InstrumentationScope("scope", "1"), metrics, "")
        data = MetricsData([ResourceMetrics(Resource({"service.name": "corpus"}), [scope], "")])
        if exporter.export(data) is not MetricExportResult.SUCCESS:
            raise SystemExit("the Collector did not take the corpus")
        exporter.shutdown()
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    shown: dict[int, tuple[str, dict[str, str], str]] = {}
    # The parser reads labels; names and values are taken as they stand (it appends _total, reads floats).
    lines = {int(m[1]): line for line in reversed(text.split("\n")) if (m := _CASE.search(line))}
    for one in (one for family in text_string_to_metric_families(text) for one in family.samples):
        if "case" in one.labels:
            case = int(one.labels.pop("case"))
            line = lines[case]
            shown.setdefault(case, (line.partition("{")[0], one.labels, line.rpartition(" ")[2]))
    return shown


@contextmanager
def collector(binary: str) -> Iterator[tuple[int, int]]:
    """A Collector on two free loopback ports: OTLP over gRPC, and the page."""
    grpc, http = (_free_port() for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(CONFIG.format(grpc=grpc, http=http))
        log = Path(folder, "log").open("w+")  # noqa: SIM115 - closed below
        process = subprocess.Popen([binary, "--config", str(config)], stdout=log, stderr=log)
        try:
            for _ in range(200):
                if process.poll() is None and all(_answers(port) for port in (grpc, http)):
                    break
                time.sleep(0.05)
            else:
                log.seek(0)
                raise SystemExit(f"the Collector did not start:\n{log.read()}")
            yield grpc, http
        finally:
            process.terminate()
            process.wait(10)
            log.close()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _plain(value: Any) -> Any:
    """As JSON can hold it: floats, bytes and lists of them as Python writes them."""
    simple = isinstance(value, str | int) or value is None
    return value if simple else repr(value)


if __name__ == "__main__":
    main()
