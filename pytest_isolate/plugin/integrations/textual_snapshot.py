"""The report of pytest-textual-snapshot: at the end of the session it shows what screenshots each test has compared.

They lie in a folder of the session's own until then, one file for each test. Seen with 1.1.
"""

from __future__ import annotations

import os

import pytest

from pytest_isolate.plugin.integrations.integration import Integration


class TextualSnapshot(Integration):
    """Its folder is named in the environment, for its workers under xdist."""

    shares_folders = True  # each test writes a file of its own, anew if it runs again

    def folders(self, item: pytest.Item) -> list[str]:
        """The folder, for a test that compares screenshots."""
        if "snap_compare" not in getattr(item, "fixturenames", ()):
            return []
        folder = os.environ.get("TEXTUAL_SNAPSHOT_TEMPDIR", "")
        return [folder] if os.path.isdir(folder) else []
