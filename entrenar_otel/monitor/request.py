"""Request: what a Monitor is asked for, checked before anything begins."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from entrenar_otel.clock import SYSTEM_CLOCK, Clock
from entrenar_otel.console import logger
from entrenar_otel.delivery.promise import Promise
from entrenar_otel.errors import ConfigError, LakeError, RunError, describe
from entrenar_otel.identity.helper import Given, helped, say_helper
from entrenar_otel.identity.launcher import derived_run_id, rank_from, run_id_from
from entrenar_otel.identity.process import is_disabled, new_run_id
from entrenar_otel.otel.environment import heed_log_level
from entrenar_otel.records import MetricsEmitter
from entrenar_otel.run.settings import DEFAULT_LAKE, FILE, RunSettings

if TYPE_CHECKING:
    from entrenar_processors import DriftDetector, Processor
    from opentelemetry.sdk.metrics.export import MetricExporter

    from entrenar_otel.andon import AndonConfig
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.store.storage import Storage

Resume = Literal["allow", "never", "must"]
OnBadValue = Literal["warn", "raise"]

_MAX_RUN_ID = 200
#: How long a new Monitor waits for its lake: a moment, and longer where `resume` depends on what it says.
_OPEN_SECONDS, _RESUME_SECONDS = 3.0, 10.0


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The keywords of `Monitor` as they were given; `resolve` checks them and fills in the rest.

    >>> RunRequest(run_id="r1", rank=2).resolve(environ={}).world_size
    3
    >>> RunRequest(resume="perhaps").resolve()
    Traceback (most recent call last):
    entrenar_otel.errors.ConfigError: expected resume to be one of allow, never, must, got 'perhaps'
    """

    run_id: str | None = None
    model_id: str | None = None
    version: str | None = None
    config: Any = None
    parents: Any = ()
    change: str | None = None
    lake: str | os.PathLike[str] | None = None
    live: str | os.PathLike[str] | None = None
    rank: int | None = None
    world_size: int | None = None
    resume: Resume = "allow"
    on_bad_value: OnBadValue = "warn"
    lazy: bool = True
    interval_seconds: float | None = None
    emitters: Sequence[MetricsEmitter] = ()
    consumers: Sequence[Any] = ()
    exporters: Sequence[MetricExporter] = ()
    processors: Sequence[Processor] = ()
    step_spans: bool = False
    quiet: bool = False
    clock: Clock = SYSTEM_CLOCK
    settings_file: str | os.PathLike[str] | None = FILE
    settings_required: bool = False
    alerting: AndonConfig | None = None
    drift_detector: DriftDetector | None = None

    def resolve(self, environ: Mapping[str, str] = os.environ) -> ResolvedRequest:
        """Check every keyword; what was not given comes from the launcher, the environment, renacer.toml.

        Raises ConfigError: expected, got.
        """
        heed_log_level(environ)
        self._check_values()
        env_rank, env_size = rank_from(environ)
        rank = max(env_rank, 0) if self.rank is None else self.rank
        world_size = max(env_size if self.world_size is None else self.world_size, rank + 1)
        agrees = self.alerting is not None and self.alerting.agree is not None
        if agrees and env_size == 1 and self.rank is not None and not self.world_size:
            raise ConfigError(
                "expected world_size together with rank: with AndonConfig(agree=…) every rank must know "
                "how many there are"
            )
        file = self._settings()
        settings = replace(
            file,
            lake=file.choose_lake(self.lake),
            interval_seconds=self.interval_seconds or file.interval_seconds,
            # Retention acts by itself only on the run's own lake, where it is written.
            retention_days=file.retention_days if self.lake is None else None,
        )
        is_off = is_disabled(environ)
        recording = helped(Given.find(self.run_id, self.rank, environ))
        if recording is not None and not is_off:
            say_helper(recording)
        return ResolvedRequest(
            given=self,
            run_id=_run_id(
                self.run_id,
                rank,
                world_size,
                environ,
                strict=self.on_bad_value == "raise",
                is_disabled=recording is not None or is_off,
            ),
            rank=rank,
            world_size=world_size,
            settings=settings,
            is_disabled=recording is not None or is_off,
            # A worker is no rank, and nobody asks it whether to stop.
            alerting=None if recording is not None else self.alerting,
        )

    def _settings(self) -> RunSettings:
        file = self.settings_file
        if self.settings_required and file is not None and not os.path.isfile(file):
            raise ConfigError(f"{file}: no such settings file")
        return RunSettings.find(file)

    def _check_values(self) -> None:
        _check_choice("resume", self.resume, ("allow", "never", "must"))
        _check_choice("on_bad_value", self.on_bad_value, ("warn", "raise"))
        if type(self.lazy) is not bool:
            raise ConfigError(f"expected lazy to be True or False, got {self.lazy!r}")
        interval = self.interval_seconds
        if interval is not None and not (_is_number(interval) and 0 < interval < 1e6):
            raise ConfigError(f"expected interval_seconds to be a number above 0, got {interval!r}")
        for name, count, least in (("rank", self.rank, 0), ("world_size", self.world_size, 1)):
            if count is not None and not (type(count) is int and least <= count < 2**31):
                raise ConfigError(f"expected {name} to be a whole number from {least}, got {count!r}")
        for name, place in (("lake", self.lake), ("live", self.live)):
            if place is not None and (not isinstance(place, str | os.PathLike) or not os.fspath(place)):
                raise ConfigError(f"expected {name} to be a folder or URL, got {place!r}")
        _check_receivers("emitters", self.emitters, ("emit_batch", "flush"))
        _check_receivers("consumers", self.consumers, ("consume",), functions=True)
        _check_receivers("exporters", self.exporters, ("export", "shutdown"))
        if self.processors:
            from entrenar_otel.andon.judging.user_processor import checked_processors

            checked_processors(self.processors)


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest:
    """A request with everything decided: which run, which rank, with which settings, and whether at all."""

    given: RunRequest
    run_id: str
    rank: int
    world_size: int
    settings: RunSettings
    is_disabled: bool
    alerting: AndonConfig | None

    def open_lake(self) -> Lake:
        """The lake, writable, with the run that `resume` demands; the default lake has a second place.

        One that does not answer is opened in the background; but what `resume` demands must be known. Raises
        ConfigError, LakeError, RunError.
        """
        from entrenar_otel.lake.store.late import LateStorage  # and pyarrow, before the clock begins to run

        opening = Promise("entrenar-open", self._open_lake)
        demands = self.given.resume != "allow"
        if opening.wait(_RESUME_SECONDS if demands else _OPEN_SECONDS):
            return opening.result()
        tries = [opening.result]

        def opened() -> Storage:
            return (tries.pop() if tries else self._open_lake)().storage

        late = LateStorage(self.settings.lake or DEFAULT_LAKE, opened)
        if demands:
            raise LakeError(
                f"expected {late.url} to say within {_RESUME_SECONDS:.0f} s whether it has run "
                f"{self.run_id!r} (resume={self.given.resume!r}), got no answer"
            )
        return make_lake(self.settings, self.given.live, storage=late)

    def _open_lake(self) -> Lake:
        given, lake = self.given, make_lake(self.settings, self.given.live)
        if (problem := _write_problem(lake)) is not None:
            if given.lake is not None or given.resume != "allow":
                raise ConfigError(
                    f"the lake {lake.storage.url} cannot be used: {problem}. Name another folder with lake="
                )
            lake = _second_lake(lake, problem, given.live)
        if given.resume != "allow":
            _check_resume(lake, self.run_id, given.resume)
        return lake


def make_lake(
    settings: RunSettings, live: str | os.PathLike[str] | None, *, storage: Storage | None = None
) -> Lake:
    """The lake of these settings; pyarrow and duckdb are imported here. Raises ConfigError."""
    from entrenar_otel.lake import Lake
    from entrenar_otel.recording.live_folder import tell_second_choice

    try:
        lake = Lake(settings.lake or DEFAULT_LAKE, live, storage=storage)
    except PermissionError as error:
        raise ConfigError(str(error)) from None
    tell_second_choice(lake.live)
    return lake


def _write_problem(lake: Lake) -> str | None:
    """Why the lake's folder cannot be written, or None. Of an object store it is not asked here."""
    storage = lake.storage
    if not storage.is_local:
        return None
    try:
        os.makedirs(storage.url, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None if os.access(storage.url, os.W_OK) else "it is not writable"


def _second_lake(lake: Lake, problem: str, live: str | os.PathLike[str] | None) -> Lake:
    from entrenar_otel.lake import Lake
    from entrenar_otel.recording.live_folder import SECOND_LAKE, foreign_problem

    second = lake.live.parent / SECOND_LAKE
    with contextlib.suppress(FileExistsError):
        second.mkdir(mode=0o700, parents=True)
    if (foreign := foreign_problem(second)) is not None:
        raise ConfigError(
            f"the lake {lake.storage.url} cannot be used ({problem}), nor can {second}: {foreign}. "
            "Name another folder with lake="
        )
    logger.warning("%s cannot be used (%s): recording into %s", lake.storage.url, problem, second)
    return Lake(second, live)


def _check_resume(lake: Lake, run_id: str, resume: Resume) -> None:
    is_known = any(record.run_id == run_id for record in lake.runs())
    if resume == "never" and is_known:
        raise RunError(f"run {run_id!r} is already in {lake.url} (resume='never')")
    if resume == "must" and not is_known:
        raise RunError(f"run {run_id!r} is not in {lake.url} (resume='must')")


#: How many runs of this process have taken each id that nobody gave to their Monitor.
id_uses: Counter[str] = Counter()
_id_uses_pid = 0


def _take(run_id: str) -> str:
    """A launcher's id for the first run of this process, `ID-2` for the next: folds, or an evaluation."""
    global _id_uses_pid
    if _id_uses_pid != os.getpid():
        id_uses.clear()
        _id_uses_pid = os.getpid()
    id_uses[run_id] += 1
    return run_id if id_uses[run_id] == 1 else f"{run_id}-{id_uses[run_id]}"


def _run_id(
    given: str | None,
    rank: int,
    world_size: int,
    environ: Mapping[str, str],
    *,
    strict: bool,
    is_disabled: bool,
) -> str:
    """The run's id: given, the launcher's, or a new one. One that is too long is shortened, or refused."""
    if given is not None and not isinstance(given, str):
        raise ConfigError(f"a run id must be text, got {describe(given)}")
    run_id = given or run_id_from(environ) or derived_run_id(environ)
    if run_id is not None and not given and not is_disabled:
        run_id = _take(run_id)
    if run_id is None:
        run_id = new_run_id()
        if world_size > 1 and rank == 0:
            logger.warning(
                "%d ranks share no run id, so each records a run of its own: set ENTRENAR_RUN_ID", world_size
            )
    if len(run_id) > _MAX_RUN_ID:
        message = f"a run id has at most {_MAX_RUN_ID} characters, got {len(run_id)}: {describe(run_id)}"
        if strict:
            raise ConfigError(message)
        digest = hashlib.sha256(run_id.encode(errors="surrogatepass")).hexdigest()[:16]
        run_id = f"{run_id[:180]}~{digest}"
        logger.warning("%s; shortened to end in ~%s", message, digest)
    try:
        run_id.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"a run id must be text that UTF-8 can write, got {describe(run_id)}") from None
    return run_id


def _check_receivers(name: str, given: Any, methods: Sequence[str], *, functions: bool = False) -> None:
    """Check, before the run begins, who gets samples or metrics: an unfit receiver would end monitoring."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"expected {name} to be a list, got {describe(given)}")
    for receiver in given:
        missing = [method for method in methods if not callable(getattr(receiver, method, None))]
        if missing and not (functions and callable(receiver)):
            what = "a function, or an object with " if functions else "an object with "
            raise ConfigError(f"{name}: expected {what}{', '.join(methods)}, got {describe(receiver)}")
        if isinstance(receiver, type):
            raise ConfigError(
                f"{name}: expected an object, got the class {receiver.__name__}: write {receiver.__name__}(…)"
            )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"expected {name} to be one of {', '.join(choices)}, got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
