"""Addresses that may be connected to."""

import subprocess
import sys
from ipaddress import ip_address, ip_network

import psutil
import pytest
from support.isolated_command import unshared

from portico.sandbox.egress.addresses import AddressBounds, is_own, is_public

# First and last address of each network that is not public, metadata services, and aliases of these.
SPECIAL = [
    "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
    "100.100.100.200",
    "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.255.255",
    "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255",
    "192.88.99.1", "192.168.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "198.51.100.0",
    "198.51.100.255", "203.0.113.0", "203.0.113.255", "224.0.0.0", "239.255.255.255", "240.0.0.0",
    "255.255.255.255",
    "::", "::1", "::7f00:1", "100::1", "100:0:0:1::1", "64:ff9b:1::808:808", "2001::1", "2001:2::1",
    "2001:20::1",
    "2001:db8::1", "2002:808:808::1", "3fff::1", "3fff:fff:ffff::1", "5f00::1", "fc00::1", "fd00:ec2::254",
    "fd20:ce::254", "fe80::1", "fec0::1", "feff::1", "ff02::1", "4000::1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110",
    "64:ff9b::7f00:1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "168.63.129.15",
    "172.15.255.255",
    "172.32.0.0", "192.0.1.0", "192.88.98.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2606:4700:4700::1111", "2001:200::1", "2001:4860:4860::8888", "2a00::1", "3ffe::1", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", SPECIAL)
def test_special_addresses_are_refused(address: str) -> None:
    assert AddressBounds().objection(ip_address(address)) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address: str) -> None:
    assert AddressBounds().objection(ip_address(address)) is None


def test_a_zone_makes_no_address_public() -> None:
    assert not is_public(ip_address("fe80::1%1"))


def test_every_interface_has_addresses_of_this_machine() -> None:
    own = [
        ip_address(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family.name in ("AF_INET", "AF_INET6") and "%" not in entry.address
    ]
    assert own
    for address in own:
        assert is_own(address)
    assert not is_own(ip_address("1.1.1.1"))
    assert not is_own(ip_address("2606:4700:4700::1111"))


_NO_DESCRIPTORS = """
import resource, socket
from ipaddress import ip_address
from portico.sandbox.egress.addresses import is_own
assert not is_own(ip_address("1.1.1.1"))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
assert is_own(ip_address("1.1.1.1"))
"""


def test_an_address_that_cannot_be_judged_is_taken_for_this_machines() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NO_DESCRIPTORS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


_PUBLIC_BY_NUMBER = """
import subprocess
from ipaddress import ip_address
from portico.sandbox.egress.addresses import AddressBounds
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
for address in ("8.8.4.4", "2606:4700:4700::1111", "64:ff9b::808:404"):
    bounds = AddressBounds()
    assert bounds.objection(ip_address(address)) is None
    own = "8.8.4.4" if "ff9b" in address else address
    subprocess.run(["ip", "address", "add", own, "dev", "lo"], check=True)
    assert "this machine" in (bounds.objection(ip_address(address)) or ""), address
    subprocess.run(["ip", "address", "del", own, "dev", "lo"], check=True)
    assert bounds.objection(ip_address(address)) is None
"""


def test_public_addresses_that_this_machine_gets_are_refused_from_then_on() -> None:
    command = [*unshared("--net"), sys.executable, "-c", _PUBLIC_BY_NUMBER]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_operator_opens_networks_and_denies_them() -> None:
    bounds = AddressBounds(denied=[ip_network("10.1.0.0/16")], opened=[ip_network("10.0.0.0/8")])
    assert bounds.objection(ip_address("10.2.0.1")) is None
    assert bounds.objection(ip_address("::ffff:10.2.0.1")) is None
    assert bounds.objection(ip_address("64:ff9b::a02:1")) is None
    for denied in ("10.1.0.1", "::ffff:10.1.0.1", "64:ff9b::a01:1"):
        assert "denies" in (bounds.objection(ip_address(denied)) or "")
    assert bounds.objection(ip_address("192.168.0.1")) is not None
    public = AddressBounds(denied=[ip_network("1.1.1.1/32"), ip_network("64:ff9b::/96")])
    assert public.objection(ip_address("1.1.1.1")) is not None
    assert public.objection(ip_address("1.1.1.2")) is None
    assert public.objection(ip_address("64:ff9b::808:808")) is not None


def test_an_address_of_this_machine_is_opened_alone() -> None:
    others = [
        ip_address(entry.address)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if name != "lo" and entry.family.name in ("AF_INET", "AF_INET6") and "%" not in entry.address
    ]
    if not others:
        pytest.skip("this machine has no address but loopback")
    own = others[0]
    around = ip_network(f"{own}/{own.max_prefixlen - 8}", strict=False)
    assert "this machine" in (AddressBounds(opened=[around]).objection(own) or "")
    assert AddressBounds(opened=[ip_network(own)]).objection(own) is None
    assert AddressBounds(opened=[ip_network("127.0.0.0/8")]).objection(ip_address("127.0.0.1")) is None
