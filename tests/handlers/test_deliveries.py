"""Deliveries: a handler that raises, hangs or is slow hinders nobody; queues are bounded."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from entrenar_processors import Series
from entrenar_processors.alert import Alert, Level

from entrenar_otel.delivery.losses import Loss
from entrenar_otel.errors import AndonStop, ConfigError
from entrenar_otel.handlers import Deliveries, Log, Notice, Webhook, as_handler

SECONDS = 20.0


class Keeper:
    """Keeps notices; waits at its gate first, and raises what it is told to."""

    min_level = Level.INFO

    def __init__(self, name: str = "keeper") -> None:
        self.name = name
        self.notices: list[Notice] = []
        self.error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.is_closed = False

    def handle(self, notice: Notice) -> None:
        self.entered.set()
        self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.notices.append(notice)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def slow() -> Iterator[Keeper]:
    made = Keeper("slow")
    made.gate.clear()
    yield made
    made.gate.set()


def test_every_handler_gets_every_notice_in_order(notice_of: Callable[..., Notice]) -> None:
    one, other = Keeper(), Keeper()
    deliveries = Deliveries([one, other])
    sent = [notice_of(f"a{i}") for i in range(50)]
    for notice in sent:
        deliveries.send(notice)
    assert deliveries.close(SECONDS) == []
    assert one.notices == other.notices == sent
    assert one.is_closed
    assert not deliveries.failures


def test_a_function_is_a_handler(alert_of: Callable[..., Alert], notice_of: Callable[..., Notice]) -> None:
    """It takes the alert, from WARNING on; its name is what failures are counted by."""
    told: list[Alert] = []

    def tell(alert: Alert) -> None:
        told.append(alert)

    deliveries = Deliveries([tell, told.append])
    deliveries.send(notice_of(level=Level.INFO))
    deliveries.send(notice_of())
    assert deliveries.flush(SECONDS)
    assert told == [alert_of(), alert_of()]
    assert deliveries.close(SECONDS) == []


@pytest.mark.parametrize(
    ("level", "least", "comes"),
    [
        (Level.INFO, Level.WARNING, False),
        (Level.WARNING, Level.WARNING, True),
        (Level.WARNING, "error", False),
        (Level.CRITICAL, "ERROR", True),
    ],
)
def test_the_least_level(level: Level, least: Any, comes: bool, notice_of: Callable[..., Notice]) -> None:
    keeper = Keeper()
    keeper.min_level = least
    deliveries = Deliveries([keeper])
    deliveries.send(notice_of(level=level))
    deliveries.close(SECONDS)
    assert bool(keeper.notices) == comes


@pytest.mark.parametrize("error", [ValueError("no"), AndonStop("stop"), SystemExit(1)])
def test_a_raising_handler(
    error: BaseException, notice_of: Callable[..., Notice], caplog: pytest.LogCaptureFixture
) -> None:
    """Counted, warned of once, and tried again with the next notice; the other has them all."""
    bad, good = Keeper("bad"), Keeper("good")
    bad.error = error
    deliveries = Deliveries([bad, good])
    for _ in range(3):
        deliveries.send(notice_of())
    assert deliveries.flush(SECONDS)
    bad.error = None
    deliveries.send(notice_of())
    assert deliveries.close(SECONDS) == []
    assert deliveries.failures == {"bad": 3}
    assert (len(bad.notices), len(good.notices)) == (1, 4)
    (message,) = [one.getMessage() for one in caplog.records]
    assert message.startswith(f"the alert handler bad failed ({type(error).__name__}: ")


def test_an_error_s_urls_are_not_shown(
    notice_of: Callable[..., Notice], caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a stranger's handler; an error that has no text is no trouble."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def one(alert: Alert) -> None:
        raise ValueError("404 for url 'https://me:pw@chat.example.com/T0/SECRET?k=SECRET' today")

    def two(alert: Alert) -> None:
        raise Odd

    deliveries = Deliveries([one, two])
    deliveries.send(notice_of())
    deliveries.close(SECONDS)
    assert "404 for url 'https://chat.example.com' today" in caplog.text
    assert "SECRET" not in caplog.text
    assert "handler two failed (Odd: …)" in caplog.text


def test_a_hanging_handler(slow: Keeper, notice_of: Callable[..., Notice]) -> None:
    """The others and the caller go on; `close` names it and does not wait for it."""
    good = Keeper("good")
    deliveries = Deliveries([slow, good])
    for _ in range(10):
        deliveries.send(notice_of())
    assert slow.entered.wait(SECONDS)
    assert not deliveries.flush(0.05)
    assert deliveries.close(0.2) == ["slow"]
    assert len(good.notices) == 10
    assert good.is_closed


def test_of_two_of_one_name_one_hangs(slow: Keeper, notice_of: Callable[..., Notice]) -> None:
    """Two webhooks, say: one is left behind, and of the other nothing is lost."""
    good = Keeper("slow")
    deliveries = Deliveries([slow, good])
    deliveries.send(notice_of())
    assert slow.entered.wait(SECONDS)
    assert deliveries.close(0.2) == ["slow"]
    assert len(good.notices) == 1
    assert deliveries.losses.text() == "1 notice (handler slow)"


def test_a_burst(slow: Keeper, notice_of: Callable[..., Notice], caplog: pytest.LogCaptureFixture) -> None:
    """10,000 while one handler hangs: it has the newest of each waiting, the rest is counted, said once."""
    log = Keeper("log")
    deliveries = Deliveries([slow, log])
    deliveries.send(notice_of("first"))
    assert slow.entered.wait(SECONDS)
    for i in range(10_000):
        series = Series("loss", (("head", str(i % 7)),))
        deliveries.send(notice_of("burst", series=series, episode=str(i)))
    slow.gate.set()
    assert deliveries.close(SECONDS) == []
    assert len(slow.notices) == 1001
    assert dict(deliveries.losses.snapshot())[Loss("notices", "handler slow")] == 9000
    assert [one.alert.episode for one in slow.notices[-7:]] == [str(i) for i in range(9993, 10_000)]
    messages = [one.getMessage() for one in caplog.records if "slow is too slow" in one.getMessage()]
    assert len(messages) == 1


def test_what_makes_room(slow: Keeper, notice_of: Callable[..., Notice]) -> None:
    """First what fired again or is over, then the oldest that fires, at last the oldest end."""
    deliveries = Deliveries([slow], max_waiting=3)
    deliveries.send(notice_of("first"))
    assert slow.entered.wait(SECONDS)

    def waiting() -> list[tuple[str, str]]:
        return [(one.alert.name, one.alert.state) for one in deliveries.waiting()[0]]

    for name in "abc":
        deliveries.send(notice_of(name))
    deliveries.send(notice_of("b", ended_ns=10**18 * 2))
    assert waiting() == [("a", "firing"), ("c", "firing"), ("b", "resolved")]
    deliveries.send(notice_of("d"))
    assert waiting() == [("c", "firing"), ("b", "resolved"), ("d", "firing")]
    for name in "cd":
        deliveries.send(notice_of(name, ended_ns=10**18 * 2))
    assert waiting() == [("b", "resolved"), ("c", "resolved"), ("d", "resolved")]
    deliveries.send(notice_of("e"))
    assert waiting() == [("c", "resolved"), ("d", "resolved"), ("e", "firing")]
    slow.gate.set()
    assert deliveries.close(SECONDS) == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking beside threads
def test_a_forked_child_tells_nobody(notice_of: Callable[..., Notice]) -> None:
    """Such as a data loader's worker: `send` and `close` do nothing there, at once."""
    keeper = Keeper()
    deliveries = Deliveries([keeper])
    deliveries.send(notice_of())
    assert deliveries.flush(SECONDS)
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        deliveries.send(notice_of("child"))
        is_fine = deliveries.close() == [] and not deliveries.flush() and len(keeper.notices) == 1
        os._exit(0 if is_fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    deliveries.send(notice_of("parent"))
    assert deliveries.close(SECONDS) == []
    assert [one.alert.name for one in keeper.notices] == ["spike", "parent"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (42, "expected a handler: a function that takes an Alert, or an object with handle.*, got int"),
        (Webhook, r"got the class Webhook: write Webhook\("),
        (type("Odd", (Keeper,), {"min_level": "loud"})(), "min_level: expected one of INFO, .*, got 'loud'"),
    ],
)
def test_what_is_no_handler(given: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        as_handler(given)


def test_the_log(notice_of: Callable[..., Notice], caplog: pytest.LogCaptureFixture) -> None:
    """A line at the alert's level, one when it is over; nothing in a name or summary breaks it."""
    caplog.set_level(logging.DEBUG)
    deliveries = Deliveries([Log()])
    for level in Level:
        deliveries.send(notice_of(level=level))
    deliveries.send(notice_of(ended_ns=1_767_323_057_623_000_000, incident="/lake/incidents/1"))
    deliveries.send(notice_of("a\nb", series=None, value=None, expected=None, summary="c\x1b[2J\r\nd"))
    assert deliveries.close(SECONDS) == []
    place = "(epoch 3, batch 17, step 40)"
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        *(
            ("entrenar_otel.alert", level, f"ALERT spike {level}: Loss spike {place}")
            for level in ("INFO", "WARNING", "ERROR", "CRITICAL")
        ),
        (
            "entrenar_otel.alert",
            "INFO",
            f"RESOLVED spike WARNING after 12.5 s: Loss spike {place}",
        ),
        ("entrenar_otel.alert", "WARNING", f"ALERT a b WARNING: c?[2J d {place}"),
    ]
