"""Sizes, as docker writes and reads them."""

from __future__ import annotations

import mmap
import random

import pytest

from pytest_isolate.spec.key_values import parse
from pytest_isolate.spec.sizes import size_text
from tests.support.problem import problem

K, M, G, T = (1 << shift for shift in (10, 20, 30, 40))


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("50M", 50 * M), ("50m", 50 * M), ("1.5g", 3 * G // 2), ("1.5G", 3 * G // 2), ("512k", 512 * K),
        ("50MB", 50 * M),
        ("50MiB", 50 * M), ("50 M", 50 * M), (" 50M ", 50 * M), (".5G", G // 2), ("2T", 2 * T), ("1048576", M),
        ("1048576b", M),
        (M, M), ("0.0001g", 107374),
    ],
)  # fmt: skip
def test_a_size_is_read_as_docker_reads_it(written: object, size: int) -> None:
    assert parse("memory", written, "here") == {"memory": size}


def test_every_exact_size_survives_being_written_and_read() -> None:
    dice = random.Random(8)
    sizes = [1, K - 1, K, K + 1, M, 3 * M // 2, G, G + 1, 5 * T, 2**62, 2**63 - 1, 1234567 * M]
    sizes += [dice.randrange(2 ** dice.randrange(1, 63)) for _ in range(3000)]
    sizes += [dice.randrange(1, 5000) * unit // 1000 for unit in (K, M, G, T) for _ in range(500)]
    for size in sizes:
        text = size_text(size)

        assert parse("swap", text, "here") == {"swap": size}, text
        assert "e" not in text, text


def test_a_rounded_size_has_its_digits_and_never_four_figures_before_the_point() -> None:
    dice = random.Random(9)
    for _ in range(3000):
        size = dice.randrange(2 ** dice.randrange(1, 50))
        text = size_text(size, digits=1)

        assert "e" not in text
        if size >= K:
            assert text[-1] in "KMGT"
            assert text[-3] == "."
            assert 1 <= float(text[:-1]) < 1024
            assert abs(float(text[:-1]) * {"K": K, "M": M, "G": G, "T": T}[text[-1]] - size) <= size * 0.06
    assert size_text(M - 1, digits=1) == "1.0M"
    assert size_text(50 * M + 100, digits=1) == "50.0M"
    assert size_text(999, digits=1) == "999"


@pytest.mark.parametrize(
    "written",
    [
        "", "M", "50X", "1e3", "1_000M", "-50M", "+50M", "0x10", "50 parrots", "1.5", "nan", "inf", "\u0665\u0660M",
        "50M50M", "9" * 5000,
        True, False, 1.5, [], b"50M", object(),
    ],
)  # fmt: skip
def test_what_is_no_size_is_told_what_is(written: object) -> None:
    text = problem("memory", written)

    assert text.startswith("memory=")
    assert 'allowed is bytes as an int, or a number with K, M, G or T (powers of 1024) as "50M" or "1.5G".' in text


@pytest.mark.parametrize(
    ("written", "suggestion"),
    [("1,5G", '"1.5G"'), ("50 Mo", '"50M"'), ("100mega", '"100M"'), (0.5 * G, '"512M"'), (50, '"50M"')],
)
def test_a_wrong_size_gets_the_nearest_right_one(written: object, suggestion: str) -> None:
    assert problem("memory", written).endswith(f"Did you mean {suggestion}?")


def test_memory_is_at_least_a_page_and_at_most_what_the_kernel_counts() -> None:
    assert parse("memory", mmap.PAGESIZE, "here") == {"memory": mmap.PAGESIZE}
    assert "too few" in problem("memory", mmap.PAGESIZE - 1)
    assert "0 bytes are too few" in problem("memory", 0)
    assert "not negative" in problem("memory", -1)
    assert parse("memory", 2**63 - 1, "here") == {"memory": 2**63 - 1}
    assert "more bytes than the kernel can count" in problem("memory", 2**63)


def test_no_swap_is_a_size_and_no_disk_is_not() -> None:
    assert parse("swap", "0", "here") == {"swap": 0}
    assert "too few" in problem("disk", "0")


@pytest.mark.parametrize(("written", "hint"), [("1K", False), ("1 k", False), ("0.5K", False), ("4095b", False),
                                               ("50", True), (50, True)])  # fmt: skip
def test_megabytes_are_suggested_only_where_no_unit_is_written(written: object, hint: bool) -> None:  # noqa: FBT001
    text = problem("memory", written)
    assert "are too few; the least is 4K." in text
    assert ("Did you mean" in text) == hint
