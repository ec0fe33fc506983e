"""What README and docs tell people to import: it stays where it is, whatever moves behind it."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "entrenar_otel": """
        AndonStop BadInput ConfigError EntrenarError Lake LakeError Metric MetricRecord MetricsCollector
        MetricsEmitter MetricsStore Monitor MonitorBuilder NotMeasured QueryError RunError __version__
        configure raise_if_stopped scale_lr wrap
    """,
    "entrenar_otel.andon": "AndonConfig",
    "entrenar_otel.cli.main": "main",
    "entrenar_otel.compare": """
        Comparison GroupComparison MetricDifference SkewComparison TestResult Verdict benjamini_hochberg
        bootstrap_interval compare_groups compare_runs compare_serving holm mann_whitney mean_interval
        two_proportions welch
    """,
    "entrenar_otel.handlers": "Alertmanager Apprise Handler Log Notice RunInfo Webhook from_environment",
    "entrenar_otel.lake": "Lake",
    "entrenar_otel.lineage": """
        Change Lineage LineageEdge LineageNode RegressionSource VersionComparison VersionId
    """,
    "entrenar_otel.pytest_plugin": "training_kit",
    "entrenar_otel.report": "Cause PostMortem postmortem",
    "entrenar_otel.sdk": "TrainingMeterProvider TrainingMetricReader training_views",
    "entrenar_otel.serving": "ABResult ABTest Guardrail MetricsExporter ModelMetrics",
    "entrenar_otel.views": "Dashboard Panel RunView Visualizer",
    "entrenar_otel.testing": "FakeClock InMemoryEmitter Kit NoOpEmitter Point kit strict",
    "entrenar_processors": """
        ABSENT AccuracyDrop AnomalyDetector Block Column Coordinates DDM DivergenceDetector Drift
        DriftDetector DriftMonitor DriftWarning ExplicitHistogram ExponentialHistogram Finding ForestMonitor
        IsolationForest MissingExtra NoDrift PageHinkley Processor QuantileSketch RiverAdapter Samples
        Series Severity SilentMembers SlidingWindowBaseline SpikeDetector Summaries Summary
    """,
    "entrenar_processors.alert": "Action Alert Level",
    "entrenar_processors.config": "BadConfig Config load_config parse_config",
}
#: Of frameworks, which not every environment has: the tests of each import them.
INTEGRATIONS = {
    "entrenar_otel.integrations.huggingface": "EntrenarCallback",
    "entrenar_otel.integrations.keras": "EntrenarCallback",
    "entrenar_otel.integrations.lightgbm": "EntrenarCallback",
    "entrenar_otel.integrations.lightning": "EntrenarCallback EntrenarLogger",
    "entrenar_otel.integrations.sklearn": "EntrenarCallback fit",
    "entrenar_otel.integrations.xgboost": "EntrenarCallback",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_can_be_imported(module: str) -> None:
    """Each from the module that documents name."""
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(found, name)] == []


def test_documents_import_public_names_only() -> None:
    """Whatever the examples of README and docs import is in the list above."""
    unknown = set()
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("entrenar_"):
                    known = (PUBLIC | INTEGRATIONS).get(str(node.module), "").split()
                    names = {alias.name for alias in node.names}
                    unknown |= {f"{document.name}: {node.module}.{name}" for name in names.difference(known)}
    assert unknown == set()
