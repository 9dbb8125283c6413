"""``--isolate-baseline`` and what goes with it: read only where somebody has written one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest

from pytest_isolate.spec import messages, sizes, values

#: By figure, how much it may be above the highest that is stored: a factor, and bytes or seconds. On two cores with
#: thirty processes that wanted them a test of 0.1 seconds took 1.0 more now and then, as no other of its run did. A
#: test of 4.7 MB took 7.0 once, when it got a huge page, which is 2 MB.
NOISE = {"memory": (1.25, float(3 << 20)), "cpu": (3.0, 0.5), "time": (3.0, 2.0)}
_FORM = 'allowed are FIGURE:FACTOR:FLOOR, as "memory:1.25:3M", "cpu:3:0.5" or "time:3:2", and FIGURE:off.'


@dataclass(frozen=True, slots=True)
class BaselineOptions:
    """What is to be compared, and what follows."""

    file: str  #: absolute path
    update: bool
    fails: bool
    noise: dict[str, tuple[float, float]]


def read(
    config: pytest.Config, place: Callable[[str], str], problems: list[str], *, fails: bool
) -> BaselineOptions | None:
    """None: nobody asks for it. What is wrong is added to ``problems``.

    :param place: where in the ini file a value is. :param fails: what the option or the ini value says.
    """
    given, base, where = config.getoption("isolate_baseline"), config.invocation_params.dir, "--isolate-baseline"
    update = bool(config.getoption("isolate_baseline_update"))
    words, wrote = config.getoption("isolate_baseline_noise"), "command line: --isolate-baseline-noise"
    if not words:
        words, wrote = config.getini("isolate_baseline_noise"), place("isolate_baseline_noise")
    noise = _read_noise(words, wrote, problems)
    if not given:
        given, base, where = config.getini("isolate_baseline"), config.rootpath, place("isolate_baseline")
    if not given:
        if update or fails:
            asked = "--isolate-baseline-update" if update else "--isolate-baseline-fail"
            problems.append(f"{asked}: write --isolate-baseline=FILE as well.")
        return None
    file = os.path.normpath(os.path.join(base, os.path.expanduser(given)))
    if os.path.isdir(file):
        problems.append(f"{where}: {file} is a directory; allowed is a file.")
    elif fails and not update and not os.path.exists(file):
        problems.append(f"{where}: there is no {file} to compare with; --isolate-baseline-update makes it.")
    return BaselineOptions(file=file, update=update, fails=fails, noise=noise)


def _read_noise(words: Iterable[str], where: str, problems: list[str]) -> dict[str, tuple[float, float]]:
    noise = dict(NOISE)
    for word in words:
        try:
            figure, allowed = read_noise(word)
        except ValueError as error:
            problems.append(f"{where}: {messages.shown(word)}: {error}")
            continue
        if allowed is None:
            noise.pop(figure, None)
        else:
            noise[figure] = allowed
    return noise


def read_noise(word: str) -> tuple[str, tuple[float, float] | None]:
    """One figure, and factor and floor; None: it is not compared. :raises ValueError: it is written wrong."""
    figure, _, rest = word.strip().partition(":")
    if figure not in NOISE:
        raise ValueError(f"{_FORM}{messages.nearest(figure, NOISE)}")
    if rest == "off":
        return figure, None
    factor, colon, floor = rest.partition(":")
    try:
        times = values.seconds(factor)
        least = float(sizes.size(floor)) if figure == "memory" else values.seconds_or_never(floor)
    except ValueError:
        raise ValueError(_FORM) from None
    if not colon or times < 1:
        raise ValueError(f"{_FORM} A factor is 1 or more.")
    return figure, (times, least)
