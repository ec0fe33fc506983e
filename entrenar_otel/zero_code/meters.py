"""Meters: plain OpenTelemetry instruments are recorded, and a run begins at their first sample.

Three ways lead here: `OTEL_PYTHON_METER_PROVIDER=entrenar`, `opentelemetry-instrument` and
`entrenar-otel run`. Whoever sets a provider of their own, before or after, keeps it: it stands behind ours,
and its exporters see all metrics of the run without coordinates among their attributes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entrenar_otel.console import logger, say
from entrenar_otel.errors import guard
from entrenar_otel.identity.process import is_disabled
from entrenar_otel.run import lifetime

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider

#: OpenTelemetry's variable, and our name in it.
VARIABLE, NAME = "OTEL_PYTHON_METER_PROVIDER", "entrenar"
#: Set by `entrenar-otel run`.
SWITCH = "ENTRENAR_ZERO_CODE"
_beginning = threading.RLock()
_meets = False


def meter_provider() -> MeterProvider:
    """The provider that `OTEL_PYTHON_METER_PROVIDER=entrenar` names: an entry point, called once per process.

    Everything that the program's own meters measure is recorded (`ENTRENAR_INSTRUMENTS` says otherwise).
    """
    from opentelemetry.metrics import NoOpMeterProvider

    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider

    if is_disabled(os.environ):
        return NoOpMeterProvider()
    meet_others()
    return _waiting(WrappingMeterProvider(patterns=patterns(os.environ)))


def begin() -> None:
    """The program imports OpenTelemetry's metrics, under `entrenar-otel run`."""
    if not is_disabled(os.environ):
        os.environ.setdefault(VARIABLE, NAME)  # OpenTelemetry makes the provider where somebody asks for it
        meet_others()


def post_instrument() -> None:
    """Put ours in front of what `opentelemetry-instrument` has set up: an entry point, which it calls last.

    Without this, the SDK's gauge keeps one value per export, and makes a series of each step.
    """
    with guard("post_instrument", "recording nothing"):
        if not is_disabled(os.environ):
            _put_in_front()


def meet_others() -> None:
    """From now on, whoever sets a global meter provider has it behind ours."""
    from entrenar_otel.otel.sdk_seams import meet_meter_providers

    global _meets
    if not _meets:
        _meets = True
        meet_meter_providers(_meet)


def patterns(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Which instruments are recorded: ENTRENAR_INSTRUMENTS, a comma between two names or patterns.

    By default all that the program's meters make where our provider was asked for by name, else those named
    `training.*`.

    >>> patterns({"ENTRENAR_INSTRUMENTS": "training.*, model.loss"}), patterns({})
    (('training.*', 'model.loss'), ('training.*',))
    >>> patterns({"OTEL_PYTHON_METER_PROVIDER": "entrenar"})
    ('*',)
    """
    from entrenar_otel.otel.metrics.meter import ANY, PATTERNS

    given = tuple(name.strip() for name in environ.get("ENTRENAR_INSTRUMENTS", "").split(",") if name.strip())
    is_wanted = environ.get(VARIABLE) == NAME or environ.get(SWITCH) == "1"
    return given or ((ANY,) if is_wanted else PATTERNS)


def model_id(environ: Mapping[str, str], argv: list[str]) -> str:
    """What is trained, for all that the environment says: the service's name, else the script's.

    >>> model_id({"OTEL_SERVICE_NAME": "digits"}, ["train.py"]), model_id({}, ["/home/ana/train.py"])
    ('digits', 'train')
    """
    from entrenar_otel.otel.resource import given_attributes, service_name

    given = environ.get("ENTRENAR_MODEL_ID") or given_attributes(environ).get("service.name")
    return given or service_name(None, argv)


def _put_in_front() -> None:
    from opentelemetry import metrics

    from entrenar_otel.otel.sdk_seams import current_meter_provider, replace_global_meter_provider

    meet_others()
    current = current_meter_provider()
    if current is None:
        os.environ.setdefault(VARIABLE, NAME)  # OpenTelemetry makes it where somebody asks
    elif (met := _meet_first(current)) is not current and not replace_global_meter_provider(met):
        logger.warning(
            "a %s is set as the meter provider, and this version of OpenTelemetry does not let it be "
            "replaced: set the provider returned by entrenar_otel.wrap(provider) as the global one instead",
            type(metrics.get_meter_provider()).__name__,
        )


def _meet(provider: Any) -> Any:
    """Somebody sets a global meter provider: what is to be set instead, or None where it is behind ours."""
    from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
    from entrenar_otel.otel.sdk_seams import current_meter_provider

    with guard("meter provider", "the program's own is used"):
        current = current_meter_provider()
        if current is None:
            return _meet_first(provider)
        if isinstance(current, WrappingMeterProvider) and _is_strange(provider) and current.take(provider):
            monitor = lifetime.latest()
            if current.is_routed and monitor is not None:
                monitor.adopt(current)  # type: ignore[attr-defined]
                _say_behind(provider)
            return None
    return provider


def _meet_first(provider: Any) -> Any:
    from entrenar_otel.otel.metrics.provider import wrap

    return _waiting(wrap(provider, patterns(os.environ))) if _is_strange(provider) else provider


def _is_strange(provider: Any) -> bool:
    """Whether it keeps no samples by itself, and is not switched off."""
    from opentelemetry.metrics import NoOpMeterProvider

    from entrenar_otel.otel.metrics.meter import TrainingMeterProvider
    from entrenar_otel.otel.metrics.sdk_reader import SdkReader
    from entrenar_otel.otel.sdk_seams import readers_of

    if isinstance(provider, TrainingMeterProvider | NoOpMeterProvider):
        return False
    return not any(isinstance(reader, SdkReader) for reader in readers_of(provider))


def _waiting(provider: WrappingMeterProvider) -> WrappingMeterProvider:
    """Let the provider's first sample begin the run."""

    def begin() -> None:
        with guard("zero code"), _beginning:
            from entrenar_otel.monitor.configure import current_or_off

            if provider.is_routed:
                return  # another thread was first
            monitor = current_or_off(model_id=model_id(os.environ, sys.argv))
            if not provider.is_routed:
                monitor.adopt(provider)
            if provider.is_routed and provider.publisher is not None:
                _say_behind(provider.others)

    provider.begin = begin
    return provider


def _say_behind(provider: Any) -> None:
    say(
        f"the {type(provider).__name__} that was set stays behind the recording: its exporters show the "
        "run's metrics, without epoch, batch and step among their attributes"
    )


def _after_fork() -> None:
    global _beginning
    _beginning = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
