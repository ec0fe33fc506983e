"""Labels in Prometheus, of metrics and alerts alike: the same as the OpenTelemetry Collector gives them."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from entrenar_otel.semconv import Kind

#: Resource attribute → the label on every series that says the same, on every route to Prometheus.
RESOURCE_LABELS = {
    "training.run.id": "run_id",
    "training.model.id": "model_id",
    "training.process.rank": "rank",
}
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def label_names(taken: Iterable[str], keys: Iterable[str], kind: Kind = Kind.GAUGE) -> dict[str, str]:
    """The label of each key of a series: the Collector's, or `tag_…` where that label is taken.

    So is a label named for which the Collector would leave the whole series out. The order of the
    keys makes no difference.

    >>> label_names(["rank"], ["http.method", "rank", "2nd", "__x"])
    {'2nd': 'key_2nd', '__x': 'tag___x', 'http.method': 'http_method', 'rank': 'tag_rank'}
    """
    used = {*taken, *(("le",) if kind is Kind.HISTOGRAM else ())}
    labels = {}
    for key in sorted(keys):
        label = prometheus_label(key) or f"tag_{_allowed(key)}"
        if label in used:
            label = f"tag_{label}"
        while label in used:
            label += "_"
        used.add(label)
        labels[key] = label
    return labels


@lru_cache(4096)
def prometheus_label(key: str) -> str:
    """The label that the Collector makes of an attribute's key; `""` where it shows no such series.

    >>> prometheus_label("http.method"), prometheus_label("1st"), prometheus_label("__x")
    ('http_method', 'key_1st', '')
    """
    label = _allowed(key)
    if label[:1].isdigit():
        label = f"key_{label}"
    return "" if label.startswith("__") or label == "_" else label


def _allowed(key: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", key)


def prometheus_label_value(value: object) -> str:
    """An attribute's value as the Collector writes it into a label: JSON, but for text and bytes.

    >>> prometheus_label_value(True), prometheus_label_value(1.0), prometheus_label_value(["a", 1e-7])
    ('true', '1', '["a",1e-7]')
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes | float):
        return _go_text(value)
    try:
        return _go_json(value)
    except ValueError:  # a NaN within a list, which JSON does not have: the Collector writes nothing
        return ""


def labels_text(pairs: Iterable[tuple[str, object]]) -> str:
    r"""Labels as Prometheus's text format has them, between the braces.

    >>> print(labels_text([("run_id", 'a "b"'), ("rank", 0)]))
    run_id="a \"b\"",rank="0"
    """
    return ",".join(
        [
            f'{label}="{(v if isinstance(v, str) else prometheus_label_value(v)).translate(_ESCAPES)}"'
            for label, v in pairs
        ]
    )


def _go_text(value: bytes | float) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace("e-0", "e-")
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _go_json(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = sorted((str(key), item) for key, item in value.items())
        return "{" + ",".join(f"{_go_json(key)}:{_go_json(item)}" for key, item in pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "[" + ",".join(map(_go_json, value)) + "]"
    if isinstance(value, bytes):
        return f'"{_go_text(value)}"'
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("not JSON")
        return _go_text(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
