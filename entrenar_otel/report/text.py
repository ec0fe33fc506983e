"""Text: how places, shares and lists are written in a report."""

from __future__ import annotations

from collections.abc import Sequence


def at_step(place: float) -> str:
    """Where on the axis, as a phrase.

    >>> at_step(1400.0), at_step(12.5)
    ('at step 1,400', 'at step 12')
    """
    return f"at step {int(place):,}"


def joined(parts: Sequence[str], word: str = "and") -> str:
    """A list in a sentence.

    >>> joined(["a", "b", "c"]), joined(["a"])
    ('a, b and c', 'a')
    """
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}" if len(parts) > 1 else "".join(parts)


def sentence(text: str) -> str:
    """With a capital and a full stop.

    >>> sentence("the loss fell")
    'The loss fell.'
    """
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")
