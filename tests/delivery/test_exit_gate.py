"""The exit gate: who is within is waited for, and nobody comes in after that but the main thread."""

from __future__ import annotations

import os
import threading

import pytest

from entrenar_otel import QueryError, errors
from entrenar_otel.delivery import exit_gate
from entrenar_otel.delivery.exit_gate import ExitGate


def test_who_is_within_is_waited_for() -> None:
    gate, inside, leave = ExitGate(), threading.Event(), threading.Event()
    seen: list[str] = []

    def work() -> None:
        with gate.passing():
            inside.set()
            leave.wait(60)
            try:
                gate.check()
            except QueryError as error:
                seen.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(60)
    closing = threading.Thread(target=gate.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    leave.set()
    closing.join(60)
    thread.join(60)
    assert not closing.is_alive()
    assert seen == ["the process ends: no query is answered any more but its main thread's"]


def passing(gate: ExitGate) -> tuple[threading.Thread, threading.Event]:
    """A thread within the gate, and what lets it leave."""
    inside, leave = threading.Event(), threading.Event()

    def hang() -> None:
        with gate.passing():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(60)
    return thread, leave


def test_one_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_gate, "_END_SECONDS", 0.01)
    gate = ExitGate()
    thread, leave = passing(gate)
    assert not gate.close()
    leave.set()
    thread.join()
    assert gate.close()


def test_only_the_main_thread_passes_a_closed_gate() -> None:
    """It has what other programs' code asks at exit."""
    gate = ExitGate()
    assert gate.close()
    with gate.passing():
        assert gate.close()  # it does not wait for itself
    refused: list[QueryError] = []

    def knock() -> None:
        try:
            with gate.passing():
                pass
        except QueryError as error:
            refused.append(error)

    thread = threading.Thread(target=knock)
    thread.start()
    thread.join()
    assert len(refused) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_waits_for_none_of_its_parents_threads() -> None:
    gate = ExitGate()
    thread, leave = passing(gate)
    pid = os.fork()
    if not pid:
        os._exit(0 if gate.close() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    leave.set()
    thread.join()


def test_what_the_end_of_the_process_cuts_short_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Within the guard it is no failure of monitoring: nothing is said, nothing counted."""
    gate = ExitGate()
    assert gate.close()
    reached: list[str] = []

    def ask() -> None:
        with errors.guard("lineage"):
            gate.check()
            reached.append("answered")
        reached.append("went on")

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(60)
    assert reached == ["went on"]
    assert not errors.failures
    assert not caplog.records
