"""What places say is laid over one another, key by key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_isolate.spec.key_values import parse, parse_all
from pytest_isolate.spec.keys import KEYS
from pytest_isolate.spec.spec import Limits, Spec
from tests.support.problem import problem

M = 1 << 20


def test_an_unknown_key_gets_all_keys_and_the_nearest() -> None:
    text = problem("memroy", "50M")

    assert "there is no key 'memroy'" in text
    assert ", ".join(KEYS) in text
    assert text.endswith("Did you mean memory?")
    assert "Did you mean" not in problem("zzz", 1)


def test_keys_of_pypis_pytest_isolate_are_told_what_replaces_them() -> None:
    assert problem("mem_limit", 200 * 2**20).endswith('write memory="200M".')
    assert problem("mem_limit", "lots").endswith('write memory="200M".')
    assert "write timeout=5 for wall seconds, or cpus=0.5" in problem("cpu_limit", 5)
    assert "nothing replaces it" in problem("resources", {"gpu": 1})


def test_a_long_value_is_cut_in_the_error() -> None:
    assert len(problem("memory", "x" * 4096)) < 300


def test_a_value_that_is_none_lifts_a_cap_and_asks_for_nothing() -> None:
    for nothing in (None, "none"):
        layers = [{"memory": parse("memory", nothing, "marker")}, {"memory": parse("memory", "50M", "ini")}]

        spec = Spec.merge(layers)

        assert spec.limits.memory is None
        assert spec.asked == frozenset()


def test_the_closest_place_wins_key_by_key() -> None:
    function, _ = parse_all({"memory": "50M"}, "function")
    module, _ = parse_all({"memory": "1G", "pids": 20, "hostname": "module"}, "module")
    ini, _ = parse_all({"pids": 5, "disk": "20M", "env": {"A": "1"}}, "ini")

    spec = Spec.merge([function, module, ini])

    assert spec == Spec(
        limits=Limits(memory=50 * M, pids=20, disk=20 * M),
        hostname="module",
        env=(("A", "1"),),
        asked=frozenset({"memory", "pids", "hostname", "disk", "env"}),
    )


def test_io_is_one_key_of_which_the_closest_wins_as_a_whole() -> None:
    near, _ = parse_all({"io": {"read": 1}}, "near")
    far, _ = parse_all({"io": {"write": 2}}, "far")

    limits = Spec.merge([near, far]).limits

    assert (limits.io_read, limits.io_write) == (1, None)


def test_nothing_asked_is_the_default_spec() -> None:
    assert Spec.merge([]) == Spec()


def test_all_that_is_wrong_in_one_place_is_told() -> None:
    layer, errors = parse_all({"memory": "x", "pids": 3, "user": "y"}, "here")

    assert layer == {"pids": {"pids": 3}}
    assert [error.problem.split("=")[0] for error in errors] == ["memory", "user"]


_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
_WORDS = st.sampled_from(
    ["none", "session", "50M", "1.5g", "-1", "0-3,7", "9-2", "bridge:", "nat", "~", "/", "\0", "fail", "x:"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=9) | _TEXT | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from([*KEYS]), value=_VALUES)
def test_any_value_is_read_or_is_an_error_of_the_user_s_that_names_the_key(key: str, value: object) -> None:
    found, errors = parse_all({key: value}, "here", "/base")

    assert [f"{key}=" in str(error) for error in errors] == ([] if found else [True])
    assert not found or found[key].keys() == {*KEYS[key].fields}
