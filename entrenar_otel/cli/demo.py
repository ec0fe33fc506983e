"""The demo: a small real training, monitored and then queried; and one that diverges."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from entrenar_processors.durations import text_of
from entrenar_processors.extras import MissingExtra
from rich.markup import escape
from rich.rule import Rule
from rich.text import Text

from entrenar_otel.cli.demo_versions import show_versions
from entrenar_otel.cli.output import Console
from entrenar_otel.errors import AndonStop, ConfigError
from entrenar_otel.monitor.monitor import Monitor

BATCH = 16
LEARNING_RATE = 0.05


def load_digits() -> tuple[Any, Any, Any, Any]:
    """1,797 handwritten digits of 8 × 8 pixels, split into training and validation."""
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ConfigError("the demo trains with scikit-learn: pip install 'entrenar-otel[demo]'") from None
    images, digits = load(return_X_y=True)
    parts: tuple[Any, Any, Any, Any] = tuple(
        train_test_split(images / 16.0, digits, test_size=0.25, random_state=0, stratify=digits)
    )
    return parts


def train(monitor: Monitor, epochs: int) -> float:
    """Train under the monitor; returns the validation accuracy.

    The norms of the updates are reported by a plain OpenTelemetry gauge, everything else by `log`.
    """
    from opentelemetry import metrics
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    x_train, x_validation, y_train, y_validation = load_digits()
    model = MLPClassifier((64,), solver="sgd", learning_rate_init=LEARNING_RATE, momentum=0.9, random_state=0)
    generator = np.random.default_rng(0)
    classes = np.unique(y_train)
    accuracy = 0.0
    update_norm = metrics.get_meter("demo").create_gauge("training.update_norm")
    for epoch in monitor.epochs(epochs):
        order = generator.permutation(len(x_train))
        batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        for rows in monitor.steps(batches):
            x, y = x_train[rows], y_train[rows]
            before = [weights.copy() for weights in model.coefs_] if hasattr(model, "coefs_") else None
            model.partial_fit(x, y, classes=classes)
            monitor.log(
                loss=model.loss_,
                accuracy=np.mean(model.predict(x) == y),
                learning_rate=LEARNING_RATE,
            )
            for layer, (old, new) in enumerate(zip(before or (), model.coefs_, strict=False)):
                update_norm.set(float(np.linalg.norm(new - old)), {"epoch": epoch, "layer": layer})
        with monitor.span("evaluate", split="validation"):
            predicted = model.predict_proba(x_validation)
            accuracy = float(np.mean(classes[predicted.argmax(axis=1)] == y_validation))
            loss = log_loss(y_validation, predicted)
            monitor.log(loss=loss, accuracy=accuracy, tags={"split": "validation"})
    return accuracy


def explode(monitor: Monitor, steps: int = 400) -> None:
    """Train two layers in plain numpy, with a learning-rate warm-up that never ends."""
    x_train, _, digits, _ = load_digits()
    x, target = x_train.astype(np.float32), np.eye(10, dtype=np.float32)[digits]
    generator = np.random.default_rng(0)
    first = generator.normal(0, 0.2, (64, 256)).astype(np.float32)
    second = generator.normal(0, 0.1, (256, 10)).astype(np.float32)
    learning_rate = 0.1
    with np.errstate(all="ignore"):
        for _ in monitor.steps(range(steps)):
            hidden = np.maximum(x @ first, 0)
            logits = hidden @ second
            logits -= logits.max(axis=1, keepdims=True)
            share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            loss = -np.mean(np.log(share[target == 1]))
            error = (share - target) / len(x)
            back = (error @ second.T) * (hidden > 0)
            gradients = x.T @ back, hidden.T @ error
            norm = np.sqrt(sum(float((gradient * gradient).sum()) for gradient in gradients))
            monitor.log(loss=loss, gradient_norm=norm, learning_rate=learning_rate)
            first -= learning_rate * gradients[0]
            second -= learning_rate * gradients[1]
            learning_rate *= 1.02  # the mistake: it should stop at some point


def show_explosion(lake: str, console: Console) -> None:
    """Show a second run that goes wrong: the line stops, and says why and where."""
    from entrenar_otel.cli.alerts import alerts_of, show_alerts

    console.print()
    console.print(Rule("a second run, whose learning rate keeps growing", align="left"))
    monitor = Monitor(
        model_id="digits-warmup", version="0.1.0", lake=lake, interval_seconds=0.1, settings_file=None
    )
    monitor.on("stop", lambda alert: console.print(f"on stop: saving a checkpoint, at {alert.where}"))
    try:
        with monitor:
            explode(monitor)
    except AndonStop as stop:
        console.print(f"[bold red]AndonStop:[/bold red] {escape(str(stop))}", highlight=False, soft_wrap=True)
    console.print()
    console.print(Rule(f"{command()} alerts {monitor.run_id} --lake {lake}", align="left"))
    show_alerts(alerts_of(monitor.lake, monitor.run_id, 20), console)


def show_curves(monitor: Monitor, console: Console) -> None:
    """Print one frame of the first run, and write it as a picture where matplotlib is installed."""
    from entrenar_otel.views.frame import frame

    console.print()
    console.print(Rule(f"{command()} watch {monitor.run_id} --once --lake {monitor.lake.url}", align="left"))
    dashboard = monitor.dashboard()
    for line in frame(dashboard.view, console.width):
        console.print(line, no_wrap=True, crop=True)
    picture = Path("demo.png")
    console.print()
    try:
        dashboard.save_png(picture)
        console.print(f"the same as a picture: {picture.resolve()}", highlight=False, soft_wrap=True)
    except (MissingExtra, OSError) as error:
        console.print(Text(f"there is no picture: {error}", style="yellow"))


#: The lines of /metrics that the demo shows: two gauges, a counter, a histogram, the run's state.
_TELLING = re.compile(
    r"training_(loss\{|update_norm|samples_total|step_duration_seconds_(sum|count)|run_state)|entrenar_overhead"
)


def read_page(url: str) -> list[str]:
    """The most telling lines of the page that Prometheus would scrape."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own page
        return [line for line in answer.read().decode().splitlines() if _TELLING.match(line)]


def command() -> str:
    """What to type to run this program again."""
    name = "entrenar-otel"
    return name if shutil.which(name) else os.path.relpath(sys.argv[0])


def run_demo(lake: str, epochs: int, console: Console) -> Monitor:
    """Train, then show the run, the answer to a query, and where everything is stored."""
    from entrenar_otel.cli.spans import show_spans, spans_of
    from entrenar_otel.cli.tables import print_table, show_run
    from entrenar_otel.lake.details import run_details

    load_digits()
    console.print(Rule("training a digit classifier under the monitor", align="left"))
    config = {"hidden": 64, "batch": BATCH, "learning_rate": LEARNING_RATE, "momentum": 0.9, "epochs": epochs}
    started = time.perf_counter()
    os.environ.setdefault("OTEL_METRICS_EXPORTER", "prometheus")
    os.environ.setdefault("OTEL_EXPORTER_PROMETHEUS_PORT", "0")  # any free port
    page: list[str] = []
    with Monitor(
        model_id="digits-mlp", version="1.0.0", config=config, lake=lake, interval_seconds=0.25
    ) as monitor:
        accuracy = train(monitor, epochs)
        samples = sum(summary.count for summary in monitor.summary().values())
        url = monitor.metrics_url
        if url is not None:
            monitor.flush()
            page = read_page(url)
    seconds = time.perf_counter() - started
    console.print(
        f"{samples:,} samples in {text_of(seconds)}; "
        f"validation accuracy [bold green]{accuracy:.1%}[/bold green]\n"
    )
    console.print(Rule(f"{command()} show {monitor.run_id} --lake {lake}", align="left"))
    show_run(run_details(monitor.lake, monitor.run_id), console)
    sql = (
        "SELECT epoch, round(avg(value), 4) AS loss, round(stddev(value), 4) AS spread, count(*) AS steps "
        "FROM metrics WHERE metric = 'loss' AND tags['split'] IS NULL GROUP BY epoch ORDER BY epoch"
    )
    console.print()
    console.print(Rule(f"{command()} query --lake {lake} --run {monitor.run_id} …", align="left"))
    console.print(sql, style="dim", highlight=False)
    print_table(monitor.query(sql), console)
    console.print()
    console.print(Rule(f"{command()} spans {monitor.run_id} --lake {lake}", align="left"))
    show_spans(monitor.run_id, spans_of(monitor.lake, monitor.run_id), console)
    if page:
        console.print()
        console.print(Rule(f"{url} while it ran (excerpt)", align="left"))
        for line in page:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    show_explosion(lake, console)
    console.print()
    console.print(Rule("where everything is stored", align="left"))
    for path in sorted(Path(monitor.lake.url).glob(f"*/*/run={monitor.run_id}/*.parquet")):
        console.print(f"{path.stat().st_size:>9,} B  {path}", highlight=False, soft_wrap=True)
    console.print(
        f"\nTry:  {command()} serve --lake {lake}\n      {command()} ls --lake {lake}\n"
        f"      {command()} export --lake {lake} -f prometheus",
        highlight=False,
    )
    show_curves(monitor, console)
    show_versions(lake, load_digits(), console, command())
    return monitor
