"""Step state: what a run knows of its training steps, whoever marks them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entrenar_native._core import HotPath

#: Who may hold the open step: nobody in particular, `steps()`, a `with` block. A block's is its `id`, which
#: is none of these numbers. The native core has the same.
NOBODY, LOOP, BLOCK = 0, 1, 2


class StepState:
    """Where the training steps are. A recorder with a native path has the same attributes in it.

    The native core begins and ends a step itself while it `is_usual`: there is nothing to look at that it
    knows nothing of (another thread's steps, a pause, values that come late, spans). Whoever is not sure
    of that says so, and the next step looks again.
    """

    __slots__ = (
        "arrived", "begun", "counted_head", "holder", "is_usual", "number", "ready", "thread", "timed_head"
    )  # fmt: skip

    def __init__(self) -> None:
        #: The number of the next training step, or of the one that goes on.
        self.number = 0
        #: Batches of this epoch that have begun: the number of the next one.
        self.begun = 0
        #: The thread that runs training steps now; 0: none.
        self.thread = 0
        #: Who began the open step and may end it: NOBODY, LOOP, or the `id` of a `with` block.
        self.holder = NOBODY
        #: Since when the step waited for its data, in seconds; NaN where nobody knows.
        self.ready = math.nan
        #: When the step that is open began, in seconds; NaN: none is.
        self.arrived = math.nan
        self.is_usual = False
        #: What a record of its times begins with, without and with its number of samples; 0: not yet known.
        self.timed_head = self.counted_head = 0


def state_of(hot: HotPath | None) -> StepState | HotPath:
    """The state of a recorder's steps: its native path, which has it too, or one of its own.

    >>> state = state_of(None)
    >>> state.number, state.thread, state.is_usual
    (0, 0, False)
    """
    return StepState() if hot is None else hot
