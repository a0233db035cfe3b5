"""Which interfaces are searched (issue 6: ``discover --interface``)."""

from __future__ import annotations

import pytest

from connectors.discovery.interfaces import Interface, choose, list_interfaces, neighbours
from schemas.errors import UsageError

LO = Interface("lo", "127.0.0.1")
ETH = Interface("eth0", "10.0.0.2", "10.0.0.255")
ALIAS = Interface("eth0", "10.0.0.3", "10.0.0.255")
OTHER_NET = Interface("eth0", "192.168.1.2", "192.168.1.255")
WLAN = Interface("wlan0", "10.9.0.2", "10.9.0.255")
ALL = (LO, ETH, ALIAS, OTHER_NET, WLAN)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([], (ETH, OTHER_NET, WLAN)),
        (["wlan0"], (WLAN,)),
        (["10.0.0.3"], (ALIAS,)),
        (["lo"], (LO,)),
        (["wlan0", "wlan0", "10.9.0.2"], (WLAN,)),
    ],
)
def test_what_is_chosen(wanted, found):
    assert choose(wanted, ALL) == found


def test_an_unknown_one_is_named_with_those_there_are():
    with pytest.raises(UsageError, match=r"'eth9'.*there are eth0, lo, wlan0"):
        choose(["eth9"], ALL)
    with pytest.raises(UsageError, match="No network interface"):
        choose([], (LO,))


def test_this_machine_has_a_loopback():
    assert any(one.address == "127.0.0.1" and one.broadcast == "" for one in list_interfaces())


def test_the_kernels_neighbours(tmp_path):
    table = tmp_path / "arp"
    table.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "10.0.0.7         0x1         0x2         a8:bb:cc:00:00:01     *        eth0\n"
        "10.0.0.8         0x1         0x0         00:00:00:00:00:00     *        eth0\n"
        "nonsense\n"
    )
    assert neighbours(table) == {"10.0.0.7": "a8bbcc000001"}
    assert neighbours(tmp_path / "none") == {}
