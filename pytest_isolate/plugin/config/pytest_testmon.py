"""pytest-testmon beside isolated tests: it may choose among them, and cannot learn of them. Seen with 2.2."""

from __future__ import annotations

import pytest


def problem(config: pytest.Config) -> str | None:
    """Why no test may be isolated, if none may.

    It gathers in pytest's own process what up to 250 tests have run, and takes what it has not heard of for not run:
    changes to that would no longer have the test run again.
    """
    if not getattr(getattr(config, "testmon_config", None), "collect", False):
        return None
    return (
        "--testmon does not see what isolated tests run, and would leave them out of later runs although what they run "
        "has changed. Leave out one of the two; --testmon-nocollect only chooses by what it has learned."
    )
