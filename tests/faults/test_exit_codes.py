"""How a run without `with` is recorded, by what its program leaves with; the program leaves as it would."""

from __future__ import annotations

from typing import Any

import pytest

LOOP = """
    before = sys.exit
    monitor = Monitor("run", quiet=True, interval_seconds=60)
    for i in range(100):
        monitor.log(loss=100.0 - i, step=i)
"""


def ended(place: Any, ending: str, code: int, state: str, reason: str | None = None) -> Any:
    done = place.make_child(LOOP + "".join(f"    {line}\n" for line in ending.splitlines())).end()
    assert done.returncode == code, done.stderr
    (record,) = place.lake.runs()
    assert (record.state, record.reason) == (state, reason)
    assert place.count() == 100
    return done


@pytest.mark.parametrize(
    ("ending", "code", "reason"),
    [
        ("sys.exit(1)", 1, "SystemExit: 1"),
        ("sys.exit(True)", 1, "SystemExit: True"),
        ("sys.exit('no data')", 1, "SystemExit: no data"),
        ("def main():\n    sys.exit(3)\nmain()", 3, "SystemExit: 3"),
        ("try:\n    1 / 0\nexcept Exception:\n    sys.exit(4)", 4, "SystemExit: 4"),
        ("try:\n    sys.exit(5)\nfinally:\n    monitor.flush()", 5, "SystemExit: 5"),
        ("try:\n    sys.exit(6)\nexcept SystemExit:\n    raise", 6, "SystemExit: 6"),
        ("exit(7)", 7, "SystemExit: 7"),
        ("signal.signal(signal.SIGALRM, lambda *_: sys.exit(8))\nsignal.alarm(1)\ntime.sleep(99)", 8,
         "SystemExit: 8"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--odd'])", 2, "SystemExit: 2"),
    ],
)  # fmt: skip
def test_an_exit_that_says_failure(place: Any, ending: str, code: int, reason: str) -> None:
    ended(place, ending, code, "crashed", reason)


@pytest.mark.parametrize(
    "ending",
    [
        "sys.exit()",
        "sys.exit(0)",
        "quit()",
        "try:\n    sys.exit(1)\nexcept SystemExit:\n    pass",
        "try:\n    sys.exit(1)\nexcept SystemExit as error:\n    kept = error",
        "try:\n    sys.exit(1)\nexcept SystemExit as error:\n    sys.exit(0)",
        "with contextlib.suppress(SystemExit):\n    sys.exit(1)",
        "one = threading.Thread(target=sys.exit, args=(1,))\none.start()\none.join()",
    ],
)
def test_an_exit_that_does_not(place: Any, ending: str) -> None:
    """Neither what was caught nor what ended a thread alone is how the program ends."""
    assert ended(place, ending, 0, "completed").said == ""


def test_what_is_patched_is_as_it_was(place: Any) -> None:
    """In looks while the run lasts, and altogether afterwards; another's patch stays."""
    done = place.run("""
        import inspect, pickle
        before, quitter = sys.exit, type(exit).__call__
        with Monitor("run", quiet=True) as monitor:
            monitor.log(loss=1.0)
            assert pickle.loads(pickle.dumps(sys.exit)) is sys.exit
            assert (sys.exit.__name__, sys.exit.__module__) == ("exit", "sys")
            with contextlib.suppress(TypeError):
                sys.exit(1, 2)
                raise AssertionError
            try:
                sys.exit("text")
            except SystemExit as error:
                assert (type(error), error.code) == (SystemExit, "text")
        assert sys.exit is before and type(exit).__call__ is quitter
        with Monitor("other", quiet=True) as monitor:
            monitor.log(loss=1.0)
            ours = sys.exit
            sys.exit = lambda *given: ours(*given)
            theirs = sys.exit
        assert sys.exit is theirs
        sys.exit(0)
    """)
    assert done.said == ""
