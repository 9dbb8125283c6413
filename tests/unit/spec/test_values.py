"""What the keys' values may look like."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pytest_isolate.spec import values
from pytest_isolate.spec.key_values import parse
from pytest_isolate.spec.spec import Spec
from tests.support.problem import problem

M = 1 << 20


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


def test_an_image_is_a_folders_name_and_none_is_the_hosts_own_tree() -> None:
    assert Spec.of(image="debian-slim").image == "debian-slim"
    assert Spec.merge([{"image": {"image": None}}, {"image": {"image": "debian-slim"}}]).image is None
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
    "written", ["", [""], 7, [7], "a\0b", "a\ud800", b"x", {"a": 1}, "/", "..", "~nobody-of-that-name/x"]
)
def test_a_writable_path_that_is_none_or_everything_is_refused(written: object) -> None:
    problem("writable", written)


def test_devices_are_written_as_for_docker() -> None:
    by_path = "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"
    written = [
        "/dev/kvm",
        "fuse",
        Path("/dev/dri"),
        "/dev/kvm:/dev/kvm",
        "/dev/snd:/dev/snd:rwm",
        "/dev/a:mrw",
        by_path,
    ]

    fields = parse("devices", written, "here", "/project")

    assert fields == {"devices": ("/dev/kvm", "/dev/fuse", "/dev/dri", "/dev/snd", "/dev/a", by_path)}


@pytest.mark.parametrize(
    "written", [None, 7, "", "/dev", "/etc/passwd", "../etc", "/dev/pts/0", "/dev/a:/dev/b", "/dev/a:r", ["/dev/a", 1]]
)
def test_what_is_no_device_path_is_refused(written: object) -> None:
    problem("devices", written)


def test_variables_are_sorted_pairs() -> None:
    assert parse("env", {"B": None, "A": "1"}, "here") == {"env": (("A", "1"), ("B", None))}


@pytest.mark.parametrize(
    "written",
    [
        None,
        "A=1",
        {"": "x"},
        {"A=B": "x"},
        {1: "x"},
        {"A": b"x"},
        {"A": "a\0"},
        {"A\0": "a"},
        {"A": "\ud800"},
        {"\ud800": "a"},
    ],
)
def test_wrong_variables_are_refused(written: object) -> None:
    assert "allowed is a mapping of names to text or None" in problem("env", written)


def test_a_variable_that_is_a_number_is_told_to_be_text() -> None:
    assert problem("env", {"A": 1}).endswith('Did you mean "1"?')


@pytest.mark.parametrize("written", [None, 1, "True", "yes"])
def test_what_is_neither_true_nor_false_is_refused(written: object) -> None:
    assert Spec.of(exclusive=False).exclusive is False
    assert "allowed are True and False." in problem("exclusive", written)


def test_whether_a_test_may_nest_is_written_as_in_python_or_in_an_ini_file() -> None:
    assert [Spec.of(nested=written).nested for written in (True, "true", False, "false")] == [True, True, False, False]
    assert "allowed are True and False" in problem("nested", "yes")
    assert "allowed are True and False" in problem("nested", 1)


def test_jobs_are_a_number_that_the_builder_has_room_for() -> None:
    assert (values.jobs("auto"), values.jobs("8"), values.jobs(1)) == (0, 8, 1)
    for written in (0, 33, "-1", "two", 1.5):
        with pytest.raises(ValueError, match=r'allowed are whole numbers from 1 to 32, and "auto"\.'):
            values.jobs(written)


def test_a_value_that_python_cannot_show_is_refused_all_the_same() -> None:
    """An int of more digits than it writes (4300), and an object whose repr fails."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert problem("pids", 10**5000).startswith("pids=<int that has no repr: ValueError>")
    assert problem("memory", Broken()).startswith("memory=<Broken that has no repr: RuntimeError>")
