"""Sizes and rates, ``"50M"`` and the like: read and written here, and nowhere else."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping

from pytest_isolate.spec.messages import nearest, shown
from pytest_isolate.spec.values import integer

_SIZE = r"(?P<number>\d{1,19}(\.\d{1,9})?|\.\d{1,9})\s?((?P<unit>[kmgt])(i?b)?|b)?"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZES = 'bytes as an int, or a number with K, M, G or T (powers of 1024) as "50M" or "1.5G"'
_LARGEST = (1 << 63) - 1  #: the kernel counts bytes in a signed 64-bit integer


def size_text(size: int, digits: int | None = None) -> str:
    """Bytes as Docker writes them: ``50M``, ``1.5G``; exact unless ``digits`` after the point are asked for."""
    for unit, factor in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if digits is not None:
            # By the figure that would be shown: one byte less than 1M is "1.0M", not "1024.0K".
            if round(size * 1024 / factor, digits) >= 1024:  # noqa: PLR2004 - the units' step
                return f"{size / factor:.{digits}f}{unit}"
        elif size >= factor and size * 1000 % factor == 0:
            whole, thousandths = divmod(size * 1000 // factor, 1000)
            return f"{whole}.{thousandths:03}".rstrip("0").rstrip(".") + unit
    return str(size)


def size(value: object, least: int = 0) -> int:
    """Bytes: an integer, or text as Docker takes it: ``50M``, ``1.5g``, ``512k``, ``50MB``, ``50MiB``."""
    count = _bytes_of_text(value) if isinstance(value, str) else integer(value)
    if count is None:
        raise ValueError(f"allowed is {_SIZES}.{_nearest_size(value)}")
    if count < 0:
        raise ValueError(f"a size is not negative; allowed is {_SIZES}.")
    if count < least:
        # A bare "50" is the usual way to get here: Docker reads it as bytes too, nobody means it.
        bare = not isinstance(value, str) or value.strip().isdecimal()
        hint = f' Did you mean "{count}M"?' if count and bare else ""
        raise ValueError(f"{count} bytes are too few; the least is {size_text(least)}.{hint}")
    if count > _LARGEST:
        raise ValueError("more bytes than the kernel can count; the most is 2**63 - 1.")
    return count


def memory_size(value: object) -> int:
    """Bytes, at least one page: the kernel counts in pages, and less than one is a cap of nothing."""
    return size(value, least=os.sysconf("SC_PAGE_SIZE"))


def _bytes_of_text(text: str) -> int | None:
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        return None
    from fractions import Fraction  # noqa: PLC0415 - each start of pytest would load it, and decimal with it

    count = Fraction(match["number"]) * _UNITS[(match["unit"] or "").lower()]
    if match["unit"] is None and count.denominator != 1:  # half a byte
        return None
    return int(count)


def _nearest_size(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value) and value >= 1:
        return f' Did you mean "{size_text(int(value))}"?'
    if isinstance(value, str) and (match := re.match(r"\s*(\d{1,19}(?:[.,]\d{1,9})?)[ _]*([kmgtKMGT])", value)):
        number = match[1].replace(",", ".")
        return f' Did you mean "{number}{match[2].upper()}"?'
    return ""


def rates(value: object) -> tuple[int | None, int | None]:
    """Bytes per second as (read, write), from a mapping with either or both."""
    rule = 'allowed is a mapping such as {"read": "20M", "write": "10M"}'
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{rule}.")
    for name in value:
        if name not in ("read", "write"):
            raise ValueError(f"{shown(name)} is neither read nor write; {rule}.{nearest(str(name), ('read', 'write'))}")
    read, write = (None if value.get(name) is None else size(value[name], least=1) for name in ("read", "write"))
    return read, write
