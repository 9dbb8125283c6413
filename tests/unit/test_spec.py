"""The contract's keys: what their values may look like, and how places that say something are laid over one another."""

from __future__ import annotations

import mmap
import random
from decimal import Decimal
from pathlib import Path

import pytest

from pytest_isolate.errors import SpecError
from pytest_isolate.keys import KEYS
from pytest_isolate.layers import parse, parse_all
from pytest_isolate.spec import Limits, Spec, conflict
from pytest_isolate.values import size_text

K, M, G, T = (1 << shift for shift in (10, 20, 30, 40))


def problem(key: str, value: object) -> str:
    with pytest.raises(SpecError) as caught:
        parse(key, value, "here")
    assert caught.value.place == "here"
    return caught.value.problem


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


@pytest.mark.parametrize(
    ("written", "cpus"), [(0.5, 0.5), (2, 2.0), ("1.5", 1.5), ("0.01", 0.01), (Decimal("0.25"), 0.25)]
)
def test_cpus_are_a_number_of_cores(written: object, cpus: float) -> None:
    assert parse("cpus", written, "here") == {"cpus": cpus}


@pytest.mark.parametrize(
    "written", [0, -1, 0.009, "0", "half", float("nan"), float("inf"), "inf", "1e1", True, [], 10**400]
)
def test_cpus_below_the_kernels_least_quota_are_refused(written: object) -> None:
    assert "allowed is a number of cores of at least 0.01" in problem("cpus", written)


@pytest.mark.parametrize(
    ("written", "cores"),
    [
        ("0", "0"),
        (0, "0"),
        ("0-1,3", "0-1,3"),
        ("3,0-1,1", "0-1,3"),
        ("0,1,2", "0-2"),
        (" 1 , 0 ", "0-1"),
        ("2-2", "2"),
        ("0-3,1-2", "0-3"),
    ],
)
def test_cores_are_sorted_and_joined(written: object, cores: str) -> None:
    assert parse("cpuset", written, "here") == {"cpuset": cores}


@pytest.mark.parametrize("written", ["", ",", "0,", "a", "0-", "-1", "0..3", "1.5", -1, True, [0, 1], "99999"])
def test_what_is_no_list_of_cores_is_told_what_is(written: object) -> None:
    assert 'allowed are core numbers and ranges such as "0-1,3".' in problem("cpuset", written)


def test_a_backward_range_of_cores_is_told_the_other_way_round() -> None:
    assert problem("cpuset", "3-1").endswith('Did you mean "1-3"?')


@pytest.mark.parametrize("written", [1, "64", " 64 "])
def test_pids_are_a_whole_number(written: object) -> None:
    assert parse("pids", written, "here") == {"pids": int(str(written))}


def test_what_no_kernel_takes_is_refused() -> None:
    assert parse("pids", 1 << 22, "here") == {"pids": 1 << 22}
    assert "the kernel takes 4194304 at most" in problem("pids", (1 << 22) + 1)
    assert "allowed is a number of cores" in problem("cpus", 10**30)


@pytest.mark.parametrize("written", [0, -1, 1.5, "1.5", "", "many", True, [3]])
def test_pids_of_less_than_one_or_none_at_all_are_refused(written: object) -> None:
    assert "allowed is a whole number of at least 1." in problem("pids", written)


def test_io_takes_either_direction_or_both() -> None:
    assert parse("io", {"read": "20M", "write": "10M"}, "here") == {"io_read": 20 * M, "io_write": 10 * M}
    assert parse("io", {"write": 1}, "here") == {"io_read": None, "io_write": 1}


def test_a_wrong_io_mapping_is_told_what_is_wrong_in_it() -> None:
    assert problem("io", {"reed": "20M"}).endswith("Did you mean read?")
    assert "allowed is a mapping" in problem("io", "20M")
    assert "allowed is a mapping" in problem("io", {})
    assert "too few" in problem("io", {"read": 0})


@pytest.mark.parametrize("written", [10, 0.5, "10", "0.5", Decimal(3)])
def test_a_time_out_is_a_number_of_seconds(written: object) -> None:
    assert parse("timeout", written, "here") == {"timeout": float(str(written))}


@pytest.mark.parametrize("written", [0, -1, "-1", "soon", float("nan"), float("inf"), True, [], 1e10])
def test_a_time_out_that_is_no_time_is_refused(written: object) -> None:
    assert "allowed is a number of seconds greater than 0" in problem("timeout", written)


@pytest.mark.parametrize(("written", "seconds"), [("10s", "10"), ("2m", "120"), ("500ms", "0.5"), ("1 h", "3600")])
def test_a_time_out_with_a_unit_is_told_its_seconds(written: str, seconds: str) -> None:
    assert problem("timeout", written).endswith(f"Did you mean {seconds}?")


@pytest.mark.parametrize(("written", "bridge"), [("bridge", ""), ("bridge:db-1.a_B", "db-1.a_B"), ("none", None)])
def test_a_bridge_may_have_a_name(written: str, bridge: str | None) -> None:
    assert Spec.of(network=written).bridge == bridge


@pytest.mark.parametrize("written", ["bridge:", "bridge:a b", "bridge:-a", "bridge:" + "a" * 64, "bridge:a:b"])
def test_a_bridges_name_is_plain(written: str) -> None:
    assert 'allowed as the name of a bridge are letters, digits and "-", "_", ".": "bridge:db".' in problem(
        "network", written
    )


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        (5432, (5432,)), ("5432", (5432,)), ([6379, " 5432"], (5432, 6379)), (["80", 80], (80,)),
        (["1", "65535"], (1, 65535)), ("session", ()), (["session"], ()), ([], ()), (["session", 80], (80,)),
        ("none", None), (["none"], None),
    ],
)  # fmt: skip
def test_ports_of_the_host_are_one_or_several_beside_the_sessions_or_none(written: object, ports: object) -> None:
    assert parse("host_ports", written, "here") == {"host_ports": ports}


@pytest.mark.parametrize(
    "written", [0, 65536, -1, True, 80.0, "http", None, b"80", {80: 80}, ["80-90"], [[80]], "0x50"]
)
def test_what_is_no_port_is_refused(written: object) -> None:
    assert 'allowed is "session", "none", or TCP ports from 1 to 65535 as in [5432, 6379].' in problem(
        "host_ports", written
    )


def test_a_slip_with_ports_gets_the_nearest_right_spelling() -> None:
    assert problem("host_ports", "5432,6379").endswith("Did you mean ['5432', '6379']?")
    assert problem("host_ports", "Session").endswith("Did you mean session?")
    assert '"none" closes all and stands alone' in problem("host_ports", ["80", "none"])


def test_closed_ports_and_the_hosts_network_contradict_each_other() -> None:
    with pytest.raises(SpecError, match="host_ports"):
        Spec.of(network="host", host_ports="none")


def test_an_image_is_a_folders_name_and_none_is_the_hosts_own_tree() -> None:
    assert Spec.of(image="debian-slim").image == "debian-slim"
    assert Spec.merged([{"image": {"image": None}}, {"image": {"image": "debian-slim"}}]).image is None
    for wrong in ("", "../etc", "a/b", ".hidden", "a" * 200, 5):
        assert "allowed is the name of an image: letters, digits" in problem("image", wrong)


def test_a_misspelt_word_gets_the_nearest_right_one() -> None:
    assert problem("network", "Hots").endswith('"nat" or "host". Did you mean host?')
    assert problem("network", "brigde:db").endswith("Did you mean bridge?")
    assert problem("user", "Root").endswith('allowed is "same" or "root". Did you mean root?')
    assert problem("user", 0).endswith('allowed is "same" or "root".')


@pytest.mark.parametrize("name", ["isolated", "a", "a-b.example", "x" * 63, "0day"])
def test_a_host_name_is_taken_as_it_is(name: str) -> None:
    assert parse("hostname", name, "here") == {"hostname": name}


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", "a.", "a_b", "é", "a b", "x" * 64, "x" * 65, 7, "a\n"])
def test_what_is_no_host_name_is_refused(name: object) -> None:
    problem("hostname", name)


def test_a_wrong_host_name_gets_the_nearest_right_one() -> None:
    assert problem("hostname", "my_host").endswith('Did you mean "my-host"?')
    assert "65 characters; the kernel takes 64" in problem("hostname", "x" * 65)


def test_writable_paths_are_made_absolute_and_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    written = ["out", "/var/data/", Path("out/../out"), "~/cache", "/x/./y"]

    fields = parse("writable", written, "here", "/project")

    assert fields == {"writable": ("/project/out", "/var/data", "/home/me/cache", "/x/y")}
    assert parse("writable", "out", "here", "/project") == {"writable": ("/project/out",)}


@pytest.mark.parametrize(
    "written", ["", [""], 7, [7], "a\0b", b"x", {"a": 1}, "/", "//", "..", "~nobody-of-that-name/x"]
)
def test_a_writable_path_that_is_none_or_everything_is_refused(written: object) -> None:
    problem("writable", written)


def test_variables_are_sorted_pairs() -> None:
    assert parse("env", {"B": None, "A": "1"}, "here") == {"env": (("A", "1"), ("B", None))}


@pytest.mark.parametrize(
    "written", [None, "A=1", {"": "x"}, {"A=B": "x"}, {1: "x"}, {"A": b"x"}, {"A": "a\0"}, {"A\0": "a"}]
)
def test_wrong_variables_are_refused(written: object) -> None:
    assert "allowed is a mapping of names to text or None" in problem("env", written)


def test_a_variable_that_is_a_number_is_told_to_be_text() -> None:
    assert problem("env", {"A": 1}).endswith('Did you mean "1"?')


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

        spec = Spec.merged(layers)

        assert spec.limits.memory is None
        assert spec.asked == frozenset()


def test_the_closest_place_wins_key_by_key() -> None:
    function, _ = parse_all({"memory": "50M"}, "function")
    module, _ = parse_all({"memory": "1G", "pids": 20, "hostname": "module"}, "module")
    ini, _ = parse_all({"pids": 5, "disk": "20M", "env": {"A": "1"}}, "ini")

    spec = Spec.merged([function, module, ini])

    assert spec == Spec(
        limits=Limits(memory=50 * M, pids=20, disk=20 * M),
        hostname="module",
        env=(("A", "1"),),
        asked=frozenset({"memory", "pids", "hostname", "disk", "env"}),
    )


def test_io_is_one_key_of_which_the_closest_wins_as_a_whole() -> None:
    near, _ = parse_all({"io": {"read": 1}}, "near")
    far, _ = parse_all({"io": {"write": 2}}, "far")

    limits = Spec.merged([near, far]).limits

    assert (limits.io_read, limits.io_write) == (1, None)


def test_nothing_asked_is_the_default_spec() -> None:
    assert Spec.merged([]) == Spec()


def test_all_that_is_wrong_in_one_place_is_told() -> None:
    layer, errors = parse_all({"memory": "x", "pids": 3, "user": "y"}, "here")

    assert layer == {"pids": {"pids": 3}}
    assert [error.problem.split("=")[0] for error in errors] == ["memory", "user"]


def test_swap_needs_memory_to_come_on_top_of() -> None:
    alone = Spec(limits=Limits(swap=M))

    assert conflict(alone) is not None
    assert conflict(Spec(limits=Limits(swap=M, memory=M))) is None
    assert conflict(Spec()) is None
    with pytest.raises(SpecError, match=r'swap="1M" comes on top of memory, and no memory is set'):
        Spec.of(swap="1M")


def test_a_library_user_writes_a_spec_as_in_the_marker() -> None:
    assert Spec.of(memory="50M", writable="out", base="/project") == Spec(
        limits=Limits(memory=50 * M), writable=("/project/out",), asked=frozenset({"memory", "writable"})
    )
    with pytest.raises(SpecError, match=r"^Spec\.of: mem=3: there is no key 'mem'"):
        Spec.of(mem=3)


def test_every_field_of_a_spec_is_set_by_a_key_and_every_key_sets_fields() -> None:
    samples = {
        "memory": "1M", "swap": "1M", "cpus": 1, "cpuset": "0", "pids": 1, "io": {"read": 1}, "disk": "1M",
        "timeout": 1, "network": "host", "host_ports": 80, "hostname": "x", "user": "root", "writable": "x", "env": {},
        "image": "busybox",
    }  # fmt: skip
    assert samples.keys() == KEYS.keys()

    set_by_keys = {name for key, value in samples.items() for name in parse(key, value, "here")}

    assert set_by_keys == (set(Limits.__dataclass_fields__) | set(Spec.__dataclass_fields__)) - {"limits", "asked"}
