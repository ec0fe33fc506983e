"""Assignment: stable, in proportion, independent between tests, and moved no more than necessary."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, kstest

from entrenar_otel.errors import BadInput, ConfigError
from entrenar_otel.serving.assignment import SaltedSplit, id_bytes

USERS = 20_000
KINDS: dict[str, Sequence[object]] = {
    "text": [f"user-{number}" for number in range(USERS)],
    "whole numbers": list(range(10**6, 10**6 + USERS)),
    "bytes": [b"%08x" % number for number in range(USERS)],
    "UUIDs": [UUID(int=number * 7919) for number in range(USERS)],
    "other letters": [f"użytkownik-{number}" for number in range(USERS)],
}


def in_b(split: SaltedSplit, users: Sequence[object]) -> np.ndarray:
    return np.array([split.arm(user) == "B" for user in users])


def test_arms_are_these_for_ever() -> None:
    """The hash is part of the format: another version of this package, or of Python, must not move users."""
    split = SaltedSplit("checkout", 0.5)
    users: list[object] = [
        "ada",
        "Ada",
        "użytkownik",
        42,
        b"\xff\x00",
        UUID(int=1),
        -1,
        "a" * 10_000,
        "\ud800",
    ]
    assert "".join(split.arm(user) for user in users) == "BBABABAAA"
    assert [split.pseudonym(user) for user in ("ada", 42)] == [3182494444172117.0, 7519451489142664.0]


def test_the_same_in_other_processes() -> None:
    program = (
        "from entrenar_otel.serving.assignment import SaltedSplit\n"
        "split = SaltedSplit('checkout', 0.5)\n"
        "print(''.join(split.arm(f'user-{n}') for n in range(300)), split.pseudonym('user-1'))"
    )
    split = SaltedSplit("checkout", 0.5)
    here = "".join(split.arm(f"user-{n}") for n in range(300)) + f" {split.pseudonym('user-1')}\n"
    for seed in ("0", "1", "random"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == here


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_arms_are_in_proportion(kind: str, share: float) -> None:
    """Chi-square against the share that was asked for; 20 combinations, so that 0.001 is rare."""
    b = int(in_b(SaltedSplit("proportion", share), KINDS[kind]).sum())
    p = chisquare([USERS - b, b], [USERS * (1 - share), USERS * share]).pvalue
    assert p > 0.001, f"{b} of {USERS}"


@pytest.mark.parametrize("kind", KINDS)
def test_tests_of_other_salts_are_independent(kind: str) -> None:
    """Also where salts and ids are of one length, for which a CRC would divide the users alike."""
    salts = ["checkout-1", "checkout-2", "checkout-3", "ranking-01"]
    arms = [in_b(SaltedSplit(salt, 0.5), KINDS[kind]) for salt in salts]
    for i, one in enumerate(arms):
        for other in arms[:i]:
            table = [[int(((one == x) & (other == y)).sum()) for x in (0, 1)] for y in (0, 1)]
            assert chi2_contingency(table).pvalue > 1e-4, table


def test_the_salt_is_told_from_the_id() -> None:
    """`ab` + `c` is not `a` + `bc`, or users of one test would be those of another."""
    users = [f"{number:05}" for number in range(2000)]
    one = [SaltedSplit("test1", 0.5).arm(user) for user in users]
    other = [SaltedSplit("test", 0.5).arm(f"1{user}") for user in users]
    assert 800 < sum(x == y for x, y in zip(one, other, strict=True)) < 1200


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_changed_share_moves_no_more_than_it_must(user: str, one: float, other: float) -> None:
    """A larger share only takes users from A into B: whoever is in B stays there."""
    low, high = sorted((one, other))
    if SaltedSplit("ramp", low).arm(user) == "B":
        assert SaltedSplit("ramp", high).arm(user) == "B"


@given(st.text(min_size=1))
def test_all_or_nobody(user: str) -> None:
    assert SaltedSplit("none", 0).arm(user) == "A"
    assert SaltedSplit("all", 1.0).arm(user) == "B"
    assert SaltedSplit("all", float(np.float32(1))).arm(user) == "B"


def test_when_closed_everybody_is_in_a() -> None:
    split = SaltedSplit("stopped", 1)
    assert split.arm("ada") == "B"
    split.close()
    assert {split.arm(user) for user in ("ada", 7, b"x")} == {"A"}


@given(st.one_of(st.integers(), st.uuids()))
def test_an_id_is_its_text(user: int | UUID) -> None:
    """A number from JSON and the same from a URL are one user."""
    assert id_bytes(user) == id_bytes(str(user)) == id_bytes(str(user).encode()) == str(user).encode()
    split = SaltedSplit("texts", 0.5)
    assert split.arm(user) == split.arm(str(user)) == split.arm(bytearray(str(user).encode()))
    assert split.pseudonym(user) == split.pseudonym(str(user).encode())


def test_numpy_integers_are_whole_numbers() -> None:
    assert id_bytes(np.int32(7)) == id_bytes(np.uint64(7)) == b"7"


def test_pseudonyms_say_nothing_of_the_arm_and_differ_by_test() -> None:
    split, other = SaltedSplit("one", 0.5), SaltedSplit("two", 0.5)
    names = np.array([split.pseudonym(user) for user in KINDS["text"]])
    assert len(set(names)) == USERS
    assert (names == np.floor(names)).all()
    assert names.max() < 2**53
    assert kstest(names[in_b(split, KINDS["text"])] / 2**53, "uniform").pvalue > 1e-4
    assert not set(names) & {other.pseudonym(user) for user in KINDS["text"]}


@pytest.mark.parametrize(
    ("user", "told"),
    [
        (None, "got None: everybody without an id would be one user"),
        (7.0, r"got 7.0: write int\(7.0\)"),
        (7.5, "expected a user's id as text, bytes, a whole number or a UUID, got 7.5"),
        (True, "got True"),
        (("ada", 1), r"got \('ada', 1\)"),
        ("", "got an empty one: all who have none would be one user"),
        (b"", "got an empty one"),
    ],
)
def test_what_is_no_id_is_refused(user: object, told: str) -> None:
    for ask in (SaltedSplit("bad", 0.5).arm, SaltedSplit("bad", 0.5).pseudonym):
        with pytest.raises(BadInput, match=told):
            ask(user)


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (-0.1, "got -0.1"),
        (1.01, "got 1.01: for 1.01 % write 0.0101"),
        (10, "got 10: for 10 % write 0.1"),
        (float("nan"), "got nan"),
        ("0.1", "got '0.1'"),
        (True, "got True"),
        (None, "got None"),
        (10**400, "expected traffic_split from 0 to 1"),
    ],
)
def test_a_share_outside_0_to_1_is_refused(share: object, told: str) -> None:
    expected = re.escape("expected traffic_split from 0 to 1 (the share of model_b), ")
    with pytest.raises(ConfigError, match=told) as caught:
        SaltedSplit("bad", share)  # type: ignore[arg-type]
    assert re.match(expected, str(caught.value))
