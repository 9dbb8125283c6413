"""Lists of cores as the kernel writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_isolate.spec.lists import core_list, cores, leaks


@pytest.mark.parametrize(("text", "expected"), [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("", set()), ("3,1-1", {1, 3})])
def test_lists_of_cores_are_read_as_the_kernel_writes_them(text: str, expected: set[int]) -> None:
    assert cores(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("report", ("report", ())),
        (["fail"], ("fail", ())),
        (["port:80", "fail", "process:a b*", "port:80"], ("fail", ("port:80", "process:a b*"))),
    ],
)
def test_leaks_are_a_word_and_patterns(value: object, expected: object) -> None:
    assert leaks(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("fails", "Did you mean fail?"),
        (["fail", "prot:80"], "Did you mean port?"),
        (["fail", "port:"], "'port:' is none of them"),
        (["port:80"], "there is none"),
        (["fail", "report"], "there are several"),
        (3, 'allowed is "off", "report" or "fail"'),
        ([3], "3 is none of them"),
    ],
)
def test_other_values_of_leaks_are_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        leaks(value)


@given(numbers=st.sets(st.integers(0, 9999), min_size=1, max_size=30), data=st.data())
def test_any_cores_in_any_order_are_written_as_the_kernel_does_and_read_back(
    numbers: set[int], data: st.DataObject
) -> None:
    text = core_list(",".join(data.draw(st.permutations([str(number) for number in numbers]))))

    assert cores(text) == numbers
    assert core_list(text) == text
