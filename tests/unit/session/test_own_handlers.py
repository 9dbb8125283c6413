"""Whether a signal handler of this process has raised an exception."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from pytest_isolate.session.own_handlers import find_raised


def raises(*_: object) -> None:
    raise TimeoutError("too long")


class Watchdog:
    def bark(self, *_: object) -> None:
        raise TimeoutError("too long")

    def __call__(self, *_: object) -> None:
        raise TimeoutError("too long")


@pytest.fixture
def struck_by() -> Iterator[Callable[[Callable[..., object]], BaseException]]:
    old = signal.getsignal(signal.SIGUSR1)

    def strike(handler: Callable[..., object]) -> BaseException:
        signal.signal(signal.SIGUSR1, handler)
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
            signal.raise_signal(signal.SIGUSR1)
        return caught.value

    yield strike
    signal.signal(signal.SIGUSR1, old)


@pytest.mark.parametrize(
    "handler",
    [raises, lambda *_: raises(), Watchdog().bark, Watchdog(), partial(raises, 1), partial(Watchdog().bark, 1)],
    ids=["function", "lambda", "method", "object", "partial", "partial of a method"],
)
def test_the_traceback_begins_with_the_handler(
    struck_by: Callable[[Callable[..., object]], BaseException], handler: Callable[..., object]
) -> None:
    found = find_raised(struck_by(handler))
    assert found is not None
    assert found.tb_frame.f_code.co_filename == __file__
    assert found.tb_frame.f_code.co_name in ("raises", "<lambda>", "bark", "__call__")


def test_ctrl_c_is_none(struck_by: Callable[[Callable[..., object]], BaseException]) -> None:
    assert find_raised(struck_by(signal.default_int_handler)) is None


def test_what_raises_by_itself_is_none() -> None:
    with pytest.raises(TimeoutError) as caught:
        raises()
    assert find_raised(caught.value) is None
    assert find_raised(TimeoutError("never raised")) is None
