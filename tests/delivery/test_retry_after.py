"""How long a server asks to wait."""

from __future__ import annotations

from entrenar_otel.delivery.retry_after import retry_after_seconds


def test_retry_after() -> None:
    """Seconds or a date; anything else is no wait."""
    assert retry_after_seconds("3") == 3
    assert retry_after_seconds("Wed, 21 Oct 2099 07:28:00 GMT") > 1e6
    assert [retry_after_seconds(text) for text in ("", "-1", "soon", "1.5", "Thu, 99 Xyz", "²")] == [0.0] * 6
