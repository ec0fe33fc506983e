"""Assignment: which arm of an A/B test a user is in, by a hash, so that nobody needs to remember it."""

from __future__ import annotations

import math
from hashlib import blake2b
from numbers import Integral
from typing import Any, Literal
from uuid import UUID

from entrenar_otel.errors import BadInput, ConfigError, describe

Arm = Literal["A", "B"]
#: Arm A, which is served today, and arm B, which may replace it.
ARMS: tuple[Arm, Arm] = ("A", "B")

#: Bytes of the hash that decide about the arm, and those that a user is known by.
_DECIDING, _NAMING = 8, slice(8, 16)


class SaltedSplit:
    """Puts `share` of all users into arm B, the rest into A: the same user into the same arm, everywhere.

    The arm depends on the salt and the user's id alone, by BLAKE2b (RFC 7693): it is the same in every
    process, on every machine and in every version of Python, and needs no memory. Tests of different salts
    are independent of each other. A larger share moves users from A to B only, a smaller one from B to A.

    An id is its text: `42`, `"42"` and `b"42"` are one user. Raises ConfigError.

    >>> split = SaltedSplit("checkout", 0.1)
    >>> split.arm("user-1"), split.arm("user-4"), split.arm(42) == split.arm("42")
    ('A', 'A', True)
    """

    def __init__(self, salt: str, share: float) -> None:
        self.salt = salt
        self.share = checked_share(share)
        text = salt.encode("utf-8", "surrogatepass")
        # With its length, so that no salt and id read as another salt and id.
        self._copy = blake2b(b"%d:%s" % (len(text), text)).copy
        self._bound = _bound(self.share)

    def arm(self, user_id: Any) -> Arm:
        """The arm of a user: text, bytes, a whole number or a UUID. Raises BadInput on anything else."""
        state = self._copy()
        kind = type(user_id)
        if kind is str and user_id.isascii() and user_id:
            state.update(user_id.encode())
        else:
            state.update(b"%d" % user_id if kind is int else id_bytes(user_id))
        return "B" if state.digest() < self._bound else "A"

    def pseudonym(self, user_id: Any) -> float:
        """A number that stands for a user in this test alone, whole and below 2**53: not from other salts.

        It hides nobody from who knows the salt and can guess the id. Raises BadInput.
        """
        state = self._copy()
        state.update(id_bytes(user_id))
        return float(int.from_bytes(state.digest()[_NAMING], "big") >> 11)

    def close(self) -> None:
        """From now on everybody is in arm A."""
        self._bound = b""


def id_bytes(user_id: Any) -> bytes:
    """What is hashed of an id. Raises BadInput.

    >>> id_bytes(UUID(int=1)), id_bytes(42)
    (b'00000000-0000-0000-0000-000000000001', b'42')
    """
    if isinstance(user_id, UUID):
        h = user_id.bytes.hex("-", 2)  # as str() has it, in half its time
        data = f"{h[:4]}{h[5:29]}{h[30:34]}{h[35:]}".encode()
    elif isinstance(user_id, str):
        data = user_id.encode("utf-8", "surrogatepass")
    elif isinstance(user_id, bytes | bytearray | memoryview):
        data = bytes(user_id)
    elif isinstance(user_id, Integral) and not isinstance(user_id, bool):
        data = b"%d" % int(user_id)
    else:
        raise BadInput(
            f"expected a user's id as text, bytes, a whole number or a UUID, got {describe(user_id)}"
            f"{_advice(user_id)}"
        )
    if not data:
        raise BadInput("expected a user's id, got an empty one: all who have none would be one user")
    return data


def _advice(user_id: Any) -> str:
    if isinstance(user_id, float) and user_id.is_integer():
        return f": write int({user_id!r})"  # a column of ids with a gap, read by pandas
    return ": everybody without an id would be one user" if user_id is None else ""


def checked_share(share: Any) -> float:
    """The share of arm B. Raises ConfigError.

    >>> checked_share(10)
    Traceback (most recent call last):
    entrenar_otel.errors.ConfigError: expected traffic_split from 0 to 1 (the share of model_b), got 10: ...
    """
    number = math.nan
    if not isinstance(share, bool | str | bytes):
        try:
            number = float(share)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
    if not 0 <= number <= 1:
        advice = f": for {number:g} % write {number / 100:g}" if 1 < number <= 100 else ""
        raise ConfigError(
            f"expected traffic_split from 0 to 1 (the share of model_b), got {describe(share)}{advice}"
        )
    return number


def _bound(share: float) -> bytes:
    """Hashes that begin with less than this are in arm B: so many of all 2**64 as the share says."""
    least = round(share * 2.0**64)
    if least >= 2**64:
        return b"\xff" * 64 + b"\x00"  # longer than any hash, and so above all
    return least.to_bytes(_DECIDING, "big") if least else b""
