"""The global tracer provider, which a process can set once: each test is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRELUDE = """
import os, threading, time
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from entrenar_otel.otel.traces.run_spans import RunSpans

def run(name, exporters=()):
    notes = []
    def note(kind, document):
        notes.append((kind, document["name"]))
        return True
    at = lambda: (None, None, None)
    tracing = RunSpans(note, Resource({"run": name}), at, environ={}, exporters=exporters)
    tracing.start()
    return tracing, notes

def user(name):
    with trace.get_tracer("user").start_as_current_span(name) as span:
        return span
"""


def outcome(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    strict = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # of forking beside threads
    done = subprocess.run(
        [sys.executable, *strict, "-c", PRELUDE + program],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_users_spans_belong_to_the_run_that_is_open() -> None:
    """Noted in the last run, exported with its resource, exported only after it; runs take over."""
    done = outcome("""
one, two, three = (InMemorySpanExporter() for _ in range(3))
tracer = trace.get_tracer("early")  # a proxy, before anybody has set a provider
first, notes = run("1", [one])
with tracer.start_as_current_span("early"):
    pass
first.end("completed")
user("between")
second, later = run("2", [two])
third, inner = run("3", [three])
user("inner")
third.end("completed")
user("later")
second.end("completed")
trace.get_tracer_provider().force_flush()
names = lambda memory: sorted((s.name, s.resource.attributes["run"]) for s in memory.get_finished_spans()
                              if not s.name.startswith("training"))
assert (1, "early") in notes and (2, "early") in notes and "between" not in dict(notes).values()
assert [name for _, name in notes].count("training.run") == 2, notes
deadline = time.monotonic() + 20  # the first run's exporters are closed in the background
while len(names(one)) < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
assert names(one) == [("between", "1"), ("early", "1")], names(one)
assert (2, "later") in later and (2, "inner") not in later and (2, "inner") in inner
assert names(three) == [("inner", "3"), ("later", "3")], names(three)
""")
    assert done.stderr == ""


def test_a_provider_of_somebody_else() -> None:
    """Ours go to its processors, always sampled; its spans are noted once; errors of theirs do not matter."""
    done = outcome("""
from opentelemetry.sdk.trace import SpanProcessor, sampling
from entrenar_otel.otel.traces.global_provider import foreign_provider
class Bad(SpanProcessor):
    def on_end(self, span):
        if span.name == "training.epoch":
            raise ValueError("bad processor")
    def force_flush(self, timeout_millis=30000):
        return True
memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
provider.add_span_processor(Bad())
trace.set_tracer_provider(provider)
assert foreign_provider() is provider
for number in range(2):
    tracing, notes = run(str(number))
    tracing.begin_epoch(0)
    user("mine")
    tracing.end("completed")
    assert provider.force_flush()
    assert sorted(notes) == sorted([(k, n) for k in (1, 2) for n in
        ("training.run", "training.run.started", "training.epoch", "mine")]
        + [(3, "training.run.started"), (3, "training.run.ended")]), notes
assert trace.get_tracer_provider() is provider
assert [s.name for s in memory.get_finished_spans()].count("training.run") == 2
""")
    assert "monitoring failed in span processor (ValueError: bad processor)" in done.stderr


@pytest.mark.parametrize(
    ("sampler", "ratio", "kept"),
    [
        ("parentbased_traceidratio", "0", False),
        ("traceidratio", "0", False),
        ("always_off", "", False),
        ("parentbased_always_on", "", True),
    ],
)
def test_the_environment_s_sampler_is_for_users_spans(sampler: str, ratio: str, kept: bool) -> None:
    """It decides as if the run's span, which is always there, were not their parent."""
    outcome(
        f"""
memory = InMemorySpanExporter()
tracing, notes = run("1", [memory])
user("mine")
tracing.end("completed")
found = {{span.name for span in memory.get_finished_spans()}}
assert {{"training.run", "training.run.started"}} <= found
assert ("mine" in found, (1, "mine") in notes) == ({kept}, {kept})
""",
        OTEL_TRACES_SAMPLER=sampler,
        OTEL_TRACES_SAMPLER_ARG=ratio,
    )


def test_tracing_switched_off_stays_off() -> None:
    """Somebody set the no-op provider: nothing is set over it, ours are noted and exported."""
    outcome("""
memory = InMemorySpanExporter()
trace.set_tracer_provider(trace.NoOpTracerProvider())
tracing, notes = run("1", [memory])
assert not user("mine").is_recording()
tracing.end("completed")
assert (2, "training.run") in notes and len(memory.get_finished_spans()) == 2
""")


@pytest.mark.parametrize("ended_by", ["the program", "atexit"])
def test_console_exporter_at_exit(ended_by: str) -> None:
    """Everything is out when the process ends, in whichever order the exit handlers come."""
    end = 'tracing.end("completed")' if ended_by == "the program" else ""
    done = outcome(f"""
import atexit
holder = []
atexit.register(lambda: holder[0].end("completed"))
tracing, notes = run("1", [ConsoleSpanExporter()])
holder.append(tracing)
{end}
user("last")
""")
    assert [done.stdout.count(f'"name": "{name}"') for name in ("training.run", "last")] == [1, 1]
    assert done.stderr == ""


def test_a_forked_child_exports_nothing_and_its_exit_is_not_ours() -> None:
    """No thread and no export in the child; a run of its own takes over there."""
    outcome("""
import sys
memory = InMemorySpanExporter()
tracing, notes = run("1", [memory])
user("before")
pid = os.fork()
if pid == 0:
    user("child")
    assert threading.active_count() == 1
    assert (1, "child") not in notes
    tracing.abandon()
    own = InMemorySpanExporter()
    mine, its = run("2", [own])
    user("own")
    mine.end("completed")
    assert "own" in {span.name for span in own.get_finished_spans()} and (2, "own") in its
    sys.exit(0)  # past atexit
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
tracing.end("completed")
assert {s.name for s in memory.get_finished_spans()} == {"training.run.started", "before", "training.run"}
""")


def test_a_hanging_exporter_does_not_keep_the_process() -> None:
    """The end of the run and of the process come all the same."""
    done = outcome("""
from opentelemetry.sdk.trace.export import SpanExporter
class Hanging(SpanExporter):
    def export(self, spans): threading.Event().wait()
    def shutdown(self): threading.Event().wait()
tracing, notes = run("1", [Hanging()])
tracing.end("completed")
assert (2, "training.run") in notes
""")
    assert "Hanging did not finish within 2 s" in done.stderr
