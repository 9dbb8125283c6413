"""What pytest shows of a failure that is no traceback: of a doctest, of a fixture that is not found.

pytest's own way to send a report makes text of it. Then it has lost its colours, and the short summary takes the text's
first line for the message of an exception.
"""

from __future__ import annotations

import io
from typing import Any

from _pytest._io import TerminalWriter  # no public name; the same in 8.0, 9.0, 9.2


class Rendered:
    """Shows as the object did that it stands for, and has no exception's place and message either."""

    def __init__(self, plain: str, coloured: str) -> None:
        self._plain, self._coloured = plain, coloured

    def __str__(self) -> str:
        return self._plain.strip()

    def toterminal(self, writer: Any) -> None:
        """Show it, as pytest's reports do."""
        writer.write(self._coloured if writer.hasmarkup else self._plain)


def render(longrepr: Any) -> tuple[str, str] | None:
    """It, without colours and with them; None for a traceback, and for what is text in a plain run as well."""
    if not hasattr(longrepr, "toterminal") or hasattr(longrepr, "reprcrash"):
        return None
    plain, coloured = io.StringIO(), io.StringIO()
    for file, markup in ((plain, False), (coloured, True)):
        writer = TerminalWriter(file)
        writer.hasmarkup = markup
        longrepr.toterminal(writer)
    return plain.getvalue(), coloured.getvalue()
