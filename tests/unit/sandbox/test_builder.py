"""What is said of a sandbox that could not be built, and of programs beside one that end too early."""

from __future__ import annotations

import pytest

from pytest_isolate.plan.operations import Step
from pytest_isolate.sandbox.builder import _DOING, _last_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "pasta ended without a word."),
        ("Failed to send 3 bytes to syslog\n", "pasta ended without a word."),
        ("1.5: First\n17.25: No interface\nFailed to send 3 bytes to syslog\n\n", "pasta says: No interface"),
        (
            "cannot fork: Resource temporarily unavailable\n",
            "pasta says: cannot fork: Resource temporarily unavailable",
        ),
    ],
)
def test_the_reason_is_what_pasta_said_last(text: str, words: str) -> None:
    assert _last_words(text) == words


def test_each_step_but_a_mount_has_words_for_its_failure() -> None:
    assert set(_DOING) == set(Step) - {Step.MOUNT}
