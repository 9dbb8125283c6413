"""What is wrong with a key's value."""

from __future__ import annotations

import pytest

from pytest_isolate.spec.errors import SpecError
from pytest_isolate.spec.key_values import parse


def problem(key: str, value: object) -> str:
    with pytest.raises(SpecError) as caught:
        parse(key, value, "here")
    assert caught.value.place == "here"
    return caught.value.problem
