"""Values and names in messages: how they are shown, and what the user may have meant."""

from __future__ import annotations

from collections.abc import Iterable


def shown(value: object) -> str:
    """``value`` as it stands in an error, cut where it is long."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - an object of the user's, or an int of more digits than Python shows
        text = f"<{type(value).__name__} that has no repr: {type(error).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - both only here


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`` Did you mean X?`` if one of ``allowed`` is near ``word``, else nothing."""
    import difflib  # noqa: PLC0415 - over a millisecond, and only an error needs it

    close = difflib.get_close_matches(word.strip().lower(), list(allowed), n=1)
    return f" Did you mean {close[0]}?" if close else ""
