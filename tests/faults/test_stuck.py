"""SIGTERM where the main thread is stuck in C, and the wake-up descriptor that others use too."""

from __future__ import annotations

import signal
from typing import Any

import pytest

STUCK = """
    import ctypes
    def stick():
        libc = ctypes.CDLL(None)
        mutex = ctypes.create_string_buffer(64)
        libc.pthread_mutex_lock(mutex)
        say("stuck")
        libc.pthread_mutex_lock(mutex)  # for ever, without the GIL
    def log(monitor, count=100):
        for step in range(count):
            monitor.log(a=1.0, step=step)
"""


def stopped(place: Any) -> None:
    assert place.count() == 100
    assert [(one.state, one.reason) for one in place.lake.runs()] == [("stopped", "SIGTERM")]
    assert list(place.live.iterdir()) == []


def test_sigterm_while_the_main_thread_is_stuck(place: Any) -> None:
    """The run is closed, and the process dies of the signal."""
    child = place.make_child(
        STUCK
        + """
    monitor = Monitor("run", quiet=True, interval_seconds=60).start()
    log(monitor)
    stick()
    """
    )
    child.expect("stuck")
    child.kill(signal.SIGTERM)
    assert child.end().returncode == -signal.SIGTERM
    stopped(place)


def test_sigterm_while_all_hangs(place: Any) -> None:
    """Main thread and emitter: what could not be closed is recovered."""
    child = place.make_child(
        STUCK
        + """
    class Hangs:
        def emit_batch(self, records): time.sleep(1000)
        def emit(self, record): pass
        def flush(self): time.sleep(1000)
    monitor = Monitor("run", quiet=True, interval_seconds=60, emitters=[Hangs()]).start()
    log(monitor)
    stick()
    """
    )
    child.expect("stuck")
    child.kill(signal.SIGTERM)
    assert child.end(60).returncode == -signal.SIGTERM
    place.lake.recover()
    stopped(place)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_users_own_handler_alone_decides(place: Any, when: str) -> None:
    """Also where its thread is stuck: that is the program's own affair."""
    handle = "    signal.signal(signal.SIGTERM, lambda *_: say('mine'))\n"
    begin = '    monitor = Monitor("run", quiet=True, interval_seconds=60).start()\n'
    order = handle + begin if when == "before" else begin + handle
    child = place.make_child(
        STUCK
        + order
        + """
    log(monitor)
    threading.Thread(target=lambda: (time.sleep(4), say("lives"), os._exit(9))).start()
    stick()
    """
    )
    child.expect("stuck")
    child.kill(signal.SIGTERM)
    while (word := child.hear()) != "lives":
        assert word == "mine"  # it was not stuck yet
    assert child.end().returncode == 9
    assert place.states() == {"run": ["crashed"]}


def test_the_wake_up_descriptor_of_another_gets_what_it_would_get(place: Any) -> None:
    """asyncio's say, which was there before; and it is the other's again after the run."""
    done = place.run("""
        import asyncio
        async def main():
            loop = asyncio.get_running_loop()
            heard = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, heard.set)
            theirs = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(theirs)
            monitor = Monitor("run", quiet=True).start()
            assert signal.set_wakeup_fd(-1) != theirs
            monitor.close()
            signal.set_wakeup_fd(theirs)
            with Monitor("second", quiet=True) as monitor:
                monitor.log(a=1.0)
                os.kill(os.getpid(), signal.SIGUSR1)
                await asyncio.wait_for(heard.wait(), 60)
            assert signal.set_wakeup_fd(theirs) == theirs
        asyncio.run(main())
    """)
    assert done.said == ""


def test_one_that_is_set_during_the_run_stays(place: Any) -> None:
    done = place.run("""
        import socket
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        with Monitor("run", quiet=True) as monitor:
            monitor.log(a=1.0)
            signal.set_wakeup_fd(writer.fileno())
        assert signal.set_wakeup_fd(-1) == writer.fileno()
    """)
    assert done.said == ""


def test_a_signal_to_a_child_is_none_to_its_parent(place: Any) -> None:
    """Sent at once, it comes before the child's hooks have run, and the descriptor is the same there."""
    child = place.make_child("""
        import subprocess
        monitor = Monitor("run", quiet=True, interval_seconds=60).start()
        log = [monitor.log(a=1.0, step=step) for step in range(100)]
        for _ in range(150):
            pid = os.fork()
            if not pid:
                time.sleep(60)
                os._exit(0)
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for _ in range(20):
            one = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)
            one.terminate()
            one.wait()
        time.sleep(3)
        say("alive")
        monitor.close()
    """)
    child.expect("alive")
    assert child.end().returncode == 0
    assert place.states() == {"run": ["completed"]}


def test_descriptors_and_threads_do_not_grow_by_runs(place: Any) -> None:
    done = place.run("""
        def count():
            time.sleep(0.5)
            return len(os.listdir("/proc/self/fd")), threading.active_count()
        for number in range(3):
            with Monitor(f"run-{number}", quiet=True) as monitor:
                monitor.log(a=1.0)
        before = count()
        for number in range(3, 8):
            with Monitor(f"run-{number}", quiet=True) as monitor:
                monitor.log(a=1.0)
        end = time.monotonic() + 60
        while (now := count()) > before:
            assert time.monotonic() < end, (before, now)
    """)
    assert done.said == ""
