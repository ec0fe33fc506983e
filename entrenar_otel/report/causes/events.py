"""Events: causes that a run said itself: an exception, a kill, numerical warnings, a limit, a command."""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.facts import RunFacts
from entrenar_otel.report.text import sentence

_MAX_TEXT = 300
#: Types that are no fault of the program: somebody, or the Andon, ended it.
_NOT_FAULTS = ("AndonStop", "KeyboardInterrupt", "SystemExit")
_KILLED = "killed"


def event_causes(facts: RunFacts) -> Iterator[Cause]:
    """What needs no curve to be seen."""
    yield from _crash(facts)
    yield from _warnings(facts)
    yield from _silent(facts)
    stop = facts.stop
    if stop is not None and stop["source"] in ("budget", "threshold", "control"):
        is_hand = stop["source"] == "control"
        yield Cause(
            "stopped_by_hand" if is_hand else f"{stop['source']}_exceeded",
            "Somebody stopped it" if is_hand else f"The limit {stop['name']} was crossed",
            sentence(stop["summary"] or "").rstrip(".") or "it was stopped",
            0.75 if is_hand else 0.6,
            (sentence(stop["summary"] or stop["name"]),),
            ()
            if is_hand
            else ("Find out why it crossed the limit; where the limit is wrong, change it in renacer.toml.",),
        )


def _crash(facts: RunFacts) -> Iterator[Cause]:
    if facts.view.state != "crashed":
        return
    failed = next((row for row in facts.failures if row["name"] == "training.run"), None)
    error = (failed or {}).get("error")
    message = ((failed or {}).get("status_message") or facts.view.reason or "")[:_MAX_TEXT]
    if error and error != "_OTHER" and not error.endswith(_NOT_FAULTS):
        out_of_memory = "memory" in message.lower() or error.endswith("MemoryError")
        yield Cause(
            "exception",
            "The program raised an exception",
            f"the training program raised {error}",
            0.95,
            (sentence(message),),
            ("Use smaller batches, or accumulate gradients.",)
            if out_of_memory
            else ("Mend what raised it: `entrenar-otel spans` shows the traceback.",),
        )
    elif not error or error == "_OTHER":
        yield Cause(
            "killed",
            "The process ended without a word",
            "the process was killed from outside, or its machine went down: it said nothing itself",
            0.7,
            (sentence(message or "no exception was recorded"),),
            (
                "Look into the kernel's log (`dmesg`) for the out-of-memory killer, and into the scheduler's "
                "log.",
                "Start it again from its latest checkpoint.",
            ),
        )


def _warnings(facts: RunFacts) -> Iterator[Cause]:
    """Numerical warnings that the judge has told of."""
    told = [row for row in facts.alerts if row["source"] == "warning" or row["name"] == "warning"]
    if told:
        yield Cause(
            "numerical_warning",
            "Numerical warnings were raised",
            "a computation of the training warned that its numbers are not to be trusted",
            0.5,
            tuple(dict.fromkeys(sentence((row["summary"] or "")[:_MAX_TEXT]) for row in told[:5])),
            ("Mend what the warning names, or raise it as an error to see where it comes from.",),
        )


def _silent(facts: RunFacts) -> Iterator[Cause]:
    """Members that the detector found while the run went on: also those that spoke again, or stopped."""
    told = [row for row in facts.alerts if row["source"] == "silent"]
    if told:
        yield Cause(
            "silent_expert",
            "A member was silent" if len(told) == 1 else f"{len(told)} members were silent",
            "a member of a group took no part in the training while the others did",
            0.8 if any(row["state"] == "firing" or row["ended_at"] for row in told) else 0.6,
            tuple(sentence(row["summary"] or facts.series_of(row)) for row in told[:5]),
            ("Look at what that member receives: its router, its input, its warnings.",),
        )
