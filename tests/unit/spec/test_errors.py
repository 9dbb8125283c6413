"""Errors: each names what, to what, why and what to do, and survives the way between processes."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from pytest_isolate.spec.errors import ImageError, IsolateError, SetupError, SpecError, UnsupportedError

ERRORS = [
    SpecError("tests/test_a.py:7: @pytest.mark.isolate", "memory='x': no."),
    UnsupportedError("memory", "mkdir /sys/fs/cgroup/x: EACCES", "Delegate a cgroup."),
    SetupError("mount overlay", "/usr", errno.EPERM, "Use a tmpfs."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_after_pickling_and_copying(error: IsolateError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)


def test_an_image_error_is_a_sentence_about_the_image_or_a_part_of_it() -> None:
    assert str(ImageError("busybox", "is not built yet.")) == "image busybox is not built yet."
    assert str(ImageError("busybox", "its layer is damaged.")) == "image busybox: its layer is damaged."


def test_a_spec_error_names_place_and_problem() -> None:
    assert str(ERRORS[0]) == "tests/test_a.py:7: @pytest.mark.isolate: memory='x': no."


def test_an_unsupported_error_names_key_reason_and_remedy() -> None:
    assert str(ERRORS[1]) == "memory cannot be enforced here: mkdir /sys/fs/cgroup/x: EACCES. Delegate a cgroup."


def test_a_setup_error_names_step_object_errno_and_remedy() -> None:
    assert str(ERRORS[2]) == "sandbox: cannot mount overlay on /usr: EPERM (Operation not permitted). Use a tmpfs."


def test_a_setup_error_leaves_out_what_it_does_not_have() -> None:
    assert str(SetupError("start the builder", "", 0)) == "sandbox: cannot start the builder."
    assert str(SetupError("start the builder", "", 4095)).startswith("sandbox: cannot start the builder: 4095 (")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("the folder is somebody's"), "sandbox: cannot do it. the folder is somebody's"),
        (TimeoutError("timed out"), "sandbox: cannot do it. timed out"),
        (OSError(-2, "Name or service not known"), "sandbox: cannot do it. [Errno -2] Name or service not known"),
        (OSError(errno.EPERM, "x", "/f"), "sandbox: cannot do it on /f: EPERM (Operation not permitted)."),
    ],
)
def test_a_setup_error_keeps_the_words_of_an_error_that_the_kernel_did_not_give(error: OSError, text: str) -> None:
    assert str(SetupError.of("do it", error)) == text
