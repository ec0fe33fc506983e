"""W&B's calls for scripts that have them: `import entrenar_otel.compat.wandb as wandb`.

`init`, `log`, `config`, `define_metric`, `summary`, `alert` and `finish` record a run into the lake; nothing
is sent to anybody. What is not there does nothing, and says so once by name; what a program needs an answer
of (`Api`, `sweep`, `use_artifact`) raises `wandb.Error`.

>>> from entrenar_otel.compat import wandb
>>> settings = {"lake": tmp_path / "lake", "quiet": True}
>>> run = wandb.init(project="digits", config={"lr": 0.1}, settings=settings)
>>> wandb.log({"loss": 0.5})
>>> wandb.finish()
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

from entrenar_otel._version import __version__ as __version__
from entrenar_otel.compat.wandb._config import Config as Config
from entrenar_otel.compat.wandb._config import as_mapping
from entrenar_otel.compat.wandb._run import Run, run_options
from entrenar_otel.compat.wandb.left_out import Error as Error
from entrenar_otel.compat.wandb.left_out import Nothing, tell_left_out
from entrenar_otel.compat.wandb.left_out import UsageError as UsageError

errors = SimpleNamespace(Error=Error, UsageError=UsageError, CommError=Error)
CommError = Error
#: What W&B's own `util` is mostly used for.
util = SimpleNamespace(generate_id=lambda length=8: secrets.token_hex(length)[:length])
#: Of the Monitor, which `settings=` may name.
_OPTIONS = frozenset(
    ["lake", "live", "quiet", "version", "parents", "change", "interval_seconds", "alerting", "model_id"]
)
#: By name what a program would go on with.
_ANSWERED = {
    "Api": "ask the lake: entrenar_otel.Lake(…).query(…)",
    "sweep": "start the trials yourself",
    "agent": "start the trials yourself",
    "controller": "start the trials yourself",
    "use_artifact": "read the file from where it is",
    "restore": "read the file from where it is",
    "use_model": "read the file from where it is",
}
#: What W&B has besides, and nobody needs an answer of.
_LEFT_OUT = frozenset(
    [
        "Artifact",
        "ArtifactTTL",
        "Audio",
        "Classes",
        "EvalTable",
        "Graph",
        "Histogram",
        "Html",
        "Image",
        "JoinedTable",
        "Molecule",
        "Object3D",
        "Plotly",
        "Table",
        "Video",
        "agents",
        "attach",
        "box3d",
        "catboost",
        "ensure_configured",
        "gym",
        "integration",
        "join",
        "jupyter",
        "keras",
        "lightgbm",
        "link_model",
        "log_artifact",
        "log_model",
        "mark_preempting",
        "patched",
        "pin_config_keys",
        "plot",
        "plot_table",
        "profiler",
        "require",
        "sacred",
        "save",
        "sklearn",
        "teardown",
        "tensorboard",
        "tensorflow",
        "termerror",
        "termlog",
        "termsetup",
        "termwarn",
        "trigger",
        "unwatch",
        "visualize",
        "watch",
        "xgboost",
    ]
)
_current_run: Run | None = None


class AlertLevel(Enum):
    """As `wandb.AlertLevel`."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Settings(dict[str, Any]):
    """As `wandb.Settings`: what the Monitor has no use for is left out."""


def init(
    entity: str | None = None,
    project: str | None = None,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - as W&B has it
    id: str | None = None,  # noqa: A002
    name: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | str | None = None,
    config: Any = None,
    config_exclude_keys: Sequence[str] | None = None,
    config_include_keys: Sequence[str] | None = None,
    allow_val_change: bool | None = None,
    group: str | None = None,
    job_type: str | None = None,
    mode: str | None = None,
    reinit: Any = None,
    resume: bool | str | None = None,
    settings: Any = None,
    **more: Any,
) -> Run:
    """Begin a run, or return the one that goes on; with `reinit` that one is finished first.

    `project` is the `model_id` of the run, `id` its run id (an existing one gets another attempt), `dir`
    where the lake is, unless `ENTRENAR_LAKE` says it; `settings` may name options of the Monitor. W&B's
    variables (`WANDB_PROJECT`, `WANDB_MODE=disabled`, …) count where nothing is given. Raises ConfigError,
    LakeError.
    """
    global _current_run
    if _current_run is not None and not _current_run._is_finished:
        if reinit in (None, False, "default", "return_previous"):
            return _current_run
        if reinit != "create_new":
            _current_run.finish()
    for option in more:
        tell_left_out(f"init({option}=…)")
    given = run_options()
    labels: dict[str, Any] = {
        "entity": entity or given.get("entity"),
        "project": project or given.get("project"),
        "name": name or given.get("name"),
        "group": group or given.get("group"),
        "job_type": job_type or given.get("job_type"),
        "tags": _tags(tags if tags is not None else given.get("tags")),
        "notes": notes or given.get("notes"),
    }
    options = {key: value for key, value in as_mapping(settings).items() if key in _OPTIONS}
    options.setdefault("model_id", labels["project"])
    if dir is not None and "ENTRENAR_LAKE" not in os.environ:
        options.setdefault("lake", os.path.join(dir, "entrenar-lake"))
    if run_id := id or given.get("id"):
        options["run_id"] = run_id
        wish = resume if resume is not None else given.get("resume")
        options["resume"] = {"must": "must", "never": "never"}.get(str(wish), "allow")
    elif labels["name"]:
        options["run_id"] = f"{labels['name']}-{util.generate_id()}"
    chosen = as_mapping(config)
    for key in [*chosen]:
        is_wanted = config_include_keys is None or key in config_include_keys
        if not is_wanted or key in (config_exclude_keys or ()):
            del chosen[key]
    enabled = (mode or given.get("mode")) != "disabled"
    _current_run = Run(chosen, labels, options, enabled=enabled)
    return _current_run


def _tags(tags: Sequence[str] | str | None) -> list[str]:
    return [tag.strip() for tag in tags.split(",")] if isinstance(tags, str) else list(tags or ())


def _current(what: str) -> Run:
    if _current_run is None or _current_run._is_finished:
        raise UsageError(f"wandb.{what} needs a run: call wandb.init() first")
    return _current_run


def log(
    data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None
) -> None:
    """See `Run.log`."""
    _current("log").log(data, step, commit, sync)


def define_metric(name: str, *arguments: Any, **settings: Any) -> Any:
    """See `Run.define_metric`."""
    return _current("define_metric").define_metric(name, *arguments, **settings)


def alert(title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
    """See `Run.alert`."""
    _current("alert").alert(title, text, level, wait_duration)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """See `Run.finish`; without a run it does nothing."""
    if _current_run is not None:
        _current_run.finish(exit_code, quiet)


def login(*_arguments: Any, **_settings: Any) -> bool:
    """There is nobody to log in to."""
    return True


def setup(*_arguments: Any, **_settings: Any) -> None:
    """Nothing has to be set up."""


def __getattr__(name: str) -> Any:
    if name == "run":
        return _current_run if _current_run is not None and not _current_run._is_finished else None
    if name in ("config", "summary"):
        return getattr(_current(name), name)
    if name in _ANSWERED:
        raise Error(f"wandb.{name} is not in entrenar_otel.compat.wandb: {_ANSWERED[name]}")
    if name not in _LEFT_OUT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    tell_left_out(name)
    return Nothing(name)
