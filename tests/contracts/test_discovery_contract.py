"""What every source of discovery holds, against simulated devices on real sockets (issue 6, 'Discovery').

The same devices are found across a real link, beside avahi, GSSDP, ipycam, minidlna and wsdd, in
tests/integration/test_discovery_network.py.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest

from benchmarks.misbehaviour.own_sockets import OwnSockets
from connectors.cameras.policy import AddressPolicy
from connectors.discovery.base import REFUSALS, Limits, Scope, Sighting, Tally
from connectors.discovery.dhip import Dhip
from connectors.discovery.interfaces import Interface
from connectors.discovery.mdns import Mdns
from connectors.discovery.sadp import Sadp
from connectors.discovery.search import Search
from connectors.discovery.simulated import SimulatedDevice, SimulatedNetwork
from connectors.discovery.ssdp import Ssdp
from connectors.discovery.wsd import WsDiscovery

LO = Interface("lo", "127.0.0.1")
SOURCES = {"mdns": Mdns, "ssdp": Ssdp, "ws-discovery": WsDiscovery, "sadp": Sadp, "dhip": Dhip}
DATAGRAMS = [name for name in SOURCES if name != "mdns"]
GIVEN_BACK_S = 20.0
SECONDS = 30.0
"""How long a search may take here; each ends as soon as it has seen what it waits for."""


def free_udp_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind(("", 0))
        return one.getsockname()[1]


class World:
    """Simulated devices on ports of their own, and sources that ask there."""

    def __init__(self, *devices: SimulatedDevice) -> None:
        self.ports = {name: free_udp_port() for name in DATAGRAMS}
        self.network = SimulatedNetwork(devices, "127.0.0.1", self.ports)

    def source(self, name):
        return SOURCES[name]() if name == "mdns" else SOURCES[name](self.ports[name])

    async def __aenter__(self):
        await self.network.start()
        return self

    async def __aexit__(self, *_error):
        await self.network.close()


def hosts(name: str) -> tuple[str, str, str]:
    """Return addresses that no other source's test uses: mDNS is one network for all of them."""
    number = 10 + list(SOURCES).index(name)
    return tuple(f"127.77.{number}.{last}" for last in (1, 2, 3))


async def until(source, scope, tally, enough):
    """Search until ``enough(sightings, tally)``; return the sightings."""
    seen: list[Sighting] = []
    search = source.search(scope, tally)
    try:
        async with asyncio.timeout(SECONDS):
            async for one in search:
                seen.append(one)
                if enough(seen, tally):
                    break
    finally:
        await search.aclose()
    return seen


def wide(**fields) -> Scope:
    return Scope((LO,), **{"timeout_s": SECONDS, **fields})


# --- every source ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
async def test_it_finds_devices_and_gives_them_while_it_searches(name):
    """SPEC 3.1; streamed: the search is far from its end when they are there."""
    one, two, _ = hosts(name)
    async with World(
        SimulatedDevice(host=one, speaks=(name,), name=f"cam {name} 1"),
        SimulatedDevice(host=two, speaks=(name,), name=f"cam {name} 2"),
    ) as world:
        tally = Tally()
        seen = await until(
            world.source(name),
            wide(),
            tally,
            lambda seen, _: {one, two} <= {x.host for x in seen if x.address},
        )
    found = {x.host: x for x in seen if x.address}
    assert {one, two} <= set(found)
    assert all(found[host].kind == "camera" for host in (one, two))
    assert all(found[host].source == name == world.source(name).name for host in (one, two))
    assert all(found[host].address.startswith(f"http://{host}") for host in (one, two))
    assert tally.asked > 0
    assert tally.answers > 0


@pytest.mark.parametrize("name", SOURCES)
async def test_it_ends_by_itself_and_leaves_no_socket(name):
    own = OwnSockets()
    source = SOURCES[name]() if name == "mdns" else SOURCES[name](free_udp_port())
    async with asyncio.timeout(SECONDS):
        seen = [one async for one in source.search(wide(timeout_s=0.3), Tally())]
    assert all(one.source == name for one in seen)
    assert await own.settled(GIVEN_BACK_S) == 0


@pytest.mark.parametrize("name", SOURCES)
async def test_given_up_early_it_leaves_no_socket(name):
    one, *_ = hosts(name)
    before = OwnSockets()
    async with World(SimulatedDevice(host=one, speaks=(name,))) as world:
        started = OwnSockets()
        await until(world.source(name), wide(), Tally(), lambda _seen, _tally: True)
        assert await started.settled(GIVEN_BACK_S) == 0
    assert await before.settled(GIVEN_BACK_S) == 0


@pytest.mark.parametrize("name", SOURCES)
async def test_where_it_cannot_ask_it_says_so(name):
    """An interface that is gone."""
    gone = Scope((Interface("gone0", "192.0.2.77"),), timeout_s=0.3)
    source = SOURCES[name]() if name == "mdns" else SOURCES[name](free_udp_port())
    with pytest.raises(OSError, match=r"."):
        async for _ in source.search(gone, Tally()):
            pass


@pytest.mark.parametrize("name", SOURCES)
async def test_an_address_outside_the_policy_is_no_sighting(name):
    """Issue 6: 'address policy: refused by default outside of it'."""
    one, two, _ = hosts(name)
    policy = AddressPolicy((f"{two}/32",))
    async with World(
        SimulatedDevice(host=one, speaks=(name,)), SimulatedDevice(host=two, speaks=(name,))
    ) as world:
        tally = Tally()
        seen = (
            await until(
                world.source(name),
                wide(policy=policy),
                tally,
                lambda seen, tally: seen and tally.refused["not_allowed"],
            )
            if name != "mdns"
            else await until(
                world.source(name),
                wide(policy=policy, timeout_s=2.0),
                tally,
                lambda _seen, _tally: False,
            )
        )
    assert {x.host for x in seen} == {two}
    assert tally.refused["not_allowed"]


# --- those by datagram ----------------------------------------------------------------------------


FAULTS = {
    "garbage": {"malformed"},
    "huge": {"too_large"},
    "bomb": {"hostile", "malformed"},
    "deep": {"hostile", "malformed"},
    "elsewhere": {"elsewhere"},
}
# An XAddr elsewhere is rewritten to the sender: test_discovery_answers.py.
BAD = [(n, f) for n in DATAGRAMS for f in FAULTS if (n, f) != ("ws-discovery", "elsewhere")]


@pytest.mark.parametrize(("name", "fault"), BAD)
async def test_bad_answers_are_counted_and_the_good_one_is_found(name, fault):
    """Issue 6: garbage, huge and hostile replies."""
    words = FAULTS[fault]
    bad, good, _ = hosts(name)
    async with World(
        SimulatedDevice(host=bad, speaks=(name,), fault=fault),
        SimulatedDevice(host=good, speaks=(name,)),
    ) as world:
        tally = Tally()
        seen = await until(
            world.source(name),
            wide(),
            tally,
            lambda seen, tally: words & set(tally.refused) and any(x.address for x in seen),
        )
    assert {x.host for x in seen} == {good}
    assert words & set(tally.refused)
    assert set(tally.refused) <= set(REFUSALS)


@pytest.mark.parametrize("name", DATAGRAMS)
async def test_a_flood_from_one_sender_is_bounded_and_drowns_nobody(name):
    loud, quiet, _ = hosts(name)
    limits = Limits(max_answers_of_one=8)
    devices = [
        SimulatedDevice(host=loud, speaks=(name,), answers=200),
        SimulatedDevice(host=quiet, speaks=(name,)),
    ]
    async with World(*devices) as world:
        tally = Tally()
        seen = await until(
            world.source(name),
            wide(limits=limits),
            tally,
            lambda seen, tally: tally.refused["flood"] and quiet in {x.host for x in seen},
        )
    assert (
        Counter(x.host for x in seen)[loud] <= limits.max_answers_of_one * 2
    )  # ssdp: answer, description
    assert tally.refused["flood"]


@pytest.mark.parametrize("name", DATAGRAMS)
async def test_answers_are_bounded_as_a_whole(name):
    one, *_ = hosts(name)
    async with World(SimulatedDevice(host=one, speaks=(name,), answers=50)) as world:
        tally = Tally()
        seen = [
            x
            async for x in world.source(name).search(
                wide(timeout_s=0.5, limits=Limits(max_answers=10)), tally
            )
        ]
    assert len(seen) <= 11  # ssdp: one description as well
    assert tally.refused["overflow"]


async def test_answers_that_wait_are_bounded_in_bytes():
    """A consumer that does not read: nothing piles up behind it."""
    one, *_ = hosts("ws-discovery")
    device = SimulatedDevice(host=one, answers=200)
    limits = Limits(max_waiting_bytes=65_536)
    async with World(device) as world:
        full = asyncio.Event()

        class Watched(Tally):
            def refuse(self, word):
                super().refuse(word)
                full.set()

        tally = Watched()
        search = world.source("ws-discovery").search(wide(limits=limits), tally)
        async with asyncio.timeout(SECONDS):
            await anext(search)
            await full.wait()  # and read no more
        await search.aclose()
    taken = tally.answers - tally.refused["overflow"]
    assert taken * (tally.answer_bytes // tally.answers) <= limits.max_waiting_bytes + 2_048


async def heard(protocol_factory, host):
    """Return a UDP socket at a host that is asked by itself."""
    loop = asyncio.get_running_loop()
    return await loop.create_datagram_endpoint(protocol_factory, local_addr=(host, 0))


@pytest.mark.parametrize("name", DATAGRAMS)
async def test_a_host_is_asked_by_itself(name):
    """Unicast: where multicast does not reach."""
    host, *_ = hosts(name)
    question: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    class Host(asyncio.DatagramProtocol):
        def datagram_received(self, data, _addr):
            if not question.done():
                question.set_result(data)

    transport, _ = await heard(Host, host)
    source = SOURCES[name](transport.get_extra_info("sockname")[1])
    search = source.search(Scope((), timeout_s=SECONDS, hosts=(host,)), Tally())
    asking = asyncio.create_task(anext(search))
    try:
        async with asyncio.timeout(SECONDS):
            assert await question
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await search.aclose()
        transport.close()


# --- descriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["garbage", "endless", "bomb", "deep"])
async def test_a_device_with_a_bad_description_is_still_seen(fault):
    host, *_ = hosts("ssdp")
    device = SimulatedDevice(host=host, speaks=("ssdp",))
    async with World(device) as world:
        # Its datagrams are good, its description is not.
        world.network.bad_descriptions[host] = fault
        tally = Tally()
        seen = await until(
            world.source("ssdp"), wide(), tally, lambda _seen, tally: tally.refused.total()
        )
    assert {x.kind for x in seen} == {"camera"}
    assert set(tally.refused) <= {"malformed", "hostile", "undescribed"}


async def test_a_host_with_a_thousand_descriptions_is_asked_for_a_few():
    """SSRF and exhaustion: a sender may send us to its own web server only so often."""
    requests = 0

    async def serve(reader, writer):
        nonlocal requests
        requests += 1
        await reader.readline()
        writer.close()

    host, *_ = hosts("ssdp")
    server = await asyncio.start_server(serve, host, 0)
    port = server.sockets[0].getsockname()[1]

    class Loud(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            for n in range(100):
                self.transport.sendto(
                    f"HTTP/1.1 200 OK\r\nUSN: uuid:{n}\r\nST: x\r\nLOCATION: http://{host}:{port}/{n}\r\n\r\n".encode(),
                    addr,
                )

    transport, _ = await heard(Loud, host)
    source = Ssdp(transport.get_extra_info("sockname")[1])
    tally = Tally()
    scope = Scope((), timeout_s=0.5, hosts=(host,), limits=Limits(description_timeout_s=0.3))
    seen = [one async for one in source.search(scope, tally)]
    transport.close()
    server.close()
    assert requests == scope.limits.max_descriptions_of_one
    assert tally.refused["flood"]
    assert {one.kind for one in seen} == {"unknown"}


async def test_a_description_that_never_ends_holds_nothing_up():
    async def hang(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<")
        await reader.read()  # until the other side has had enough
        writer.close()

    host, *_ = hosts("ssdp")
    server = await asyncio.start_server(hang, host, 0)
    port = server.sockets[0].getsockname()[1]

    class One(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(
                f"HTTP/1.1 200 OK\r\nUSN: uuid:1\r\nST: {'x'}\r\nLOCATION: http://{host}:{port}/\r\n\r\n".encode(),
                addr,
            )

    transport, _ = await heard(One, host)
    source = Ssdp(transport.get_extra_info("sockname")[1])
    scope = Scope((), timeout_s=0.3, hosts=(host,), limits=Limits(description_timeout_s=0.2))
    tally = Tally()
    async with asyncio.timeout(SECONDS):
        seen = [one async for one in source.search(scope, tally)]
    transport.close()
    server.close()
    assert tally.refused["undescribed"] == 1
    assert len(seen) == 1


# --- all at once ----------------------------------------------------------------------------------


def search_in(world, **fields) -> Search:
    return Search(wide(**fields), [world.source(name) for name in SOURCES], arp=dict)


async def run_until(search, enough):
    """Run a search until its survey is enough; return the survey."""
    running = search.run()
    try:
        async with asyncio.timeout(SECONDS):
            async for _ in running:
                if enough(search.survey()):
                    break
    finally:
        await running.aclose()
    return search.survey()


async def test_one_camera_that_five_protocols_see_is_one_device():
    """SPEC 3.1: 'in parallel, merged, de-duplicated, identified → DeviceProfile'."""
    host = "127.77.20.1"
    camera = SimulatedDevice(
        host=host,
        speaks=tuple(SOURCES),
        mac="a8bbcc000001",
        serial="DS-90071",
        model="DS-2CD2042",
        maker="Hikvision",
        epr="4d45",
    )
    async with World(camera) as world:
        search = search_in(world)
        found = await run_until(search, lambda now: any(len(x.seen_by) == 5 for x in now.devices))
    (device,) = [one for one in found.devices if one.host == host]
    assert device.seen_by == tuple(sorted(SOURCES))
    assert device.profile().device_id == "mac-a8bbcc000001"
    assert (device.protocol, device.address) == ("onvif", f"http://{host}/onvif/device_service")


async def test_a_source_that_fails_does_not_stop_the_others():
    host = "127.77.21.1"

    class Broken:
        name = "broken"

        async def search(self, scope, tally):
            raise OSError(101, "Network is unreachable")
            yield

    async with World(SimulatedDevice(host=host)) as world:
        search = Search(wide(), [Broken(), world.source("ws-discovery")], arp=dict)
        found = await run_until(search, lambda now: now.devices and search.tallies["broken"].failed)
    assert [one.host for one in found.devices] == [host]
    assert search.tallies["broken"].failed == "Network is unreachable"


async def test_a_bug_in_a_source_is_not_hidden():
    class Buggy:
        name = "buggy"

        async def search(self, scope, tally):
            raise ZeroDivisionError
            yield

    with pytest.raises(ZeroDivisionError):
        async for _ in Search(wide(timeout_s=0.2), [Buggy()]).run():
            pass


async def test_a_source_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr("connectors.discovery.search.GRACE_S", 0.1)

    class Endless:
        name = "endless"

        async def search(self, scope, tally):
            await asyncio.Event().wait()
            yield

    search = Search(wide(timeout_s=0.1), [Endless()])
    async with asyncio.timeout(SECONDS):
        assert [one async for one in search.run()] == []
    assert "stopped" in search.tallies["endless"].failed


async def test_different_sightings_are_bounded():
    devices = [SimulatedDevice(host=f"127.77.30.{n}") for n in range(1, 21)]
    async with World(*devices) as world:
        search = Search(
            wide(timeout_s=0.5, limits=Limits(max_sightings=5)),
            [world.source("ws-discovery")],
            arp=dict,
        )
        async for _ in search.run():
            pass
    assert len(search.sightings) == 5
    assert search.tallies["ws-discovery"].refused["overflow"]
