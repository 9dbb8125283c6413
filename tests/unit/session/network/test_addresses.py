"""Addresses on a bridge: each its own, in private ranges, and the names for them."""

from __future__ import annotations

import ipaddress

from pytest_isolate.session.network.addresses import NETWORKS, PREFIX, PREFIX6, NodeAddress, address, hosts


def test_all_addresses_are_private_and_those_of_a_network_are_in_its_range_alone() -> None:
    ranges = set()
    for index in (1, 2, 77, NETWORKS):
        own, own6 = (
            ipaddress.ip_network(f"{text}/{length}", strict=False)
            for text, length in ((address(index, 0).ip, PREFIX), (address(index, 0).ip6, PREFIX6))
        )
        ranges |= {own, own6}
        for number in (0, 1, 254, 255, 256, 65532):
            each = address(index, number)
            ip, ip6 = ipaddress.ip_address(each.ip), ipaddress.ip_address(each.ip6)
            assert ip.is_private
            assert ip6 in ipaddress.ip_network("fd00::/8")
            assert ip in own
            assert ip6 in own6
            assert ip not in (own[0], own[-1])  # the network's own address, and that of all
    assert len(ranges) == 8


def test_no_two_sandboxes_of_a_network_share_anything_before_all_numbers_are_used() -> None:
    given = [address(3, number) for number in range(65533)]

    for part in ("ip", "ip6", "mac", "link_local"):
        assert len({getattr(each, part) for each in given}) == len(given)
    assert address(3, 65533) == given[0]


def test_the_link_local_address_is_what_the_kernel_makes_of_the_mac_address() -> None:
    assert NodeAddress("", "", "02:69:73:00:00:01").link_local == "fe80::69:73ff:fe00:1"


def test_names_have_both_addresses_and_nothing_of_the_host() -> None:
    one, two = address(1, 0), NodeAddress("10.65.0.2", "", "")

    lines = hosts([("db", one), ("web.example", two)]).splitlines()

    assert lines[:2] == ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    assert lines[2:] == ["10.65.0.1 db", "fd69:736f:6c61:1::1 db", "10.65.0.2 web.example"]
