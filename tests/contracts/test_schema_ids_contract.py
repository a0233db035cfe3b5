"""One suite over every source of schema ids, and what is the registry's own (issue 3 point 3)."""

from __future__ import annotations

import copy
import hashlib
import json
import socket
from collections import Counter

import psutil
import pytest
from apicurio import Apicurio
from fake_registry import FakeRegistry

from schemas.catalogue import current_schemas, released_schemas
from schemas.codec import Codec
from schemas.errors import BrokerError, DecodeError, SchemaError
from schemas.ids import FingerprintIds, canonical_form, fingerprint_id
from schemas.records import CaptureCommand, DeviceOffline, DeviceOnline, DeviceProfile
from schemas.registry import RegistryIds, RegistrySettings

CURRENT = current_schemas()
COMMAND = CaptureCommand(1, "d", "s", "", 1, 2, 3, 4, 5, 6, 7)


@pytest.fixture
def registry():
    with FakeRegistry() as running:
        yield running


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory):
    """A real registry that refuses what could not be read."""
    with Apicurio(tmp_path_factory.mktemp("apicurio"), compatibility="FULL_TRANSITIVE") as running:
        yield running


@pytest.fixture(
    params=["fingerprint", "registry", pytest.param("apicurio", marks=pytest.mark.long)]
)
def make_ids(request):
    """A function that makes the ids of a new process."""
    if request.param == "fingerprint":
        yield FingerprintIds
        return
    if request.param == "apicurio":
        yield from processes(request.getfixturevalue("apicurio").url)
        return
    yield from processes(request.getfixturevalue("registry").url)


def processes(url):
    made = []

    def make():
        made.append(RegistryIds(RegistrySettings(url, retries=0)))
        return made[-1]

    yield make
    for ids in made:
        ids.close()


def quick(url, **values):
    return RegistrySettings(url, retries=0, timeout_ms=2_000, **values)


def connections(url):
    """Return how many sockets of this process are connected to the address."""
    port = int(url.rpartition(":")[2])
    mine = psutil.Process().net_connections("tcp")
    return sum(
        1
        for one in mine
        if one.raddr
        and one.raddr.port == port
        and one.status == "ESTABLISHED"
        and one.laddr.port != port
    )


class TestEverySource:
    def test_every_record_has_an_id_of_its_own(self, make_ids):
        ids = make_ids()
        found = [ids.id_of(name) for name in CURRENT]
        assert len(set(found)) == len(CURRENT)
        assert all(0 <= schema_id < 2**31 for schema_id in found)

    def test_an_id_leads_back_to_the_writers_schema(self, make_ids):
        ids = make_ids()
        for name, schema in CURRENT.items():
            found_name, found = ids.schema_of(ids.id_of(name))
            assert found_name == name
            assert canonical_form(found) == canonical_form(schema)

    def test_a_second_process_has_the_same_ids(self, make_ids):
        first, second = make_ids(), make_ids()
        assert [first.id_of(name) for name in CURRENT] == [second.id_of(name) for name in CURRENT]

    def test_what_one_process_writes_another_reads(self, make_ids):
        assert Codec(make_ids()).decode(Codec(make_ids()).encode(COMMAND)) == COMMAND

    def test_an_unknown_id_is_none_and_bad_data(self, make_ids):
        ids = make_ids()
        assert ids.schema_of(2**31 - 1) is None
        with pytest.raises(DecodeError, match="2147483647 is not known here") as caught:
            Codec(ids).decode(b"\x00\x7f\xff\xff\xff\x00")
        assert caught.value.code == "unknown_schema"

    def test_an_unknown_name_is_an_error(self, make_ids):
        with pytest.raises(SchemaError, match=r"no schema named shutterwheel\.Nothing"):
            make_ids().id_of("shutterwheel.Nothing")


class TestFingerprints:
    def test_ids_never_change(self):
        """An id stands in every stored record; the SHA-256 of the canonical form makes it."""
        form = (
            '{"name":"shutterwheel.DeviceOnline","type":"record","fields":['
            '{"name":"device_id","type":"string"},{"name":"at_ms","type":"long"},'
            '{"name":"flapping","type":"boolean"}]}'
        )
        assert canonical_form(CURRENT["shutterwheel.DeviceOnline"]) == form
        assert fingerprint_id(CURRENT["shutterwheel.DeviceOnline"]) == 0x7FFFFFFF & int(
            hashlib.sha256(form.encode()).hexdigest()[:8], 16
        )

    def test_docs_and_defaults_do_not_change_an_id(self):
        schema = copy.deepcopy(CURRENT["shutterwheel.DeviceProfile"])
        before = fingerprint_id(schema)
        schema["doc"] = "Other words."
        schema["fields"][-1]["default"] = 7
        assert fingerprint_id(schema) == before

    def test_released_schemas_are_known(self):
        ids = FingerprintIds()
        for name, versions in released_schemas().items():
            assert all(ids.schema_of(fingerprint_id(s))[0] == name for s in versions.values())

    def test_a_collision_is_an_error_when_loaded(self, monkeypatch):
        monkeypatch.setattr("schemas.ids.fingerprint_id", lambda _: 5)
        with pytest.raises(SchemaError, match="have the same id 5 by chance"):
            FingerprintIds()


class TestRegistry:
    def test_the_subject_is_the_full_name_and_what_is_registered_is_whole(self, registry):
        """Record-name strategy; no references (DESIGN 'Arrows')."""
        RegistryIds(quick(registry.url)).close()
        assert set(registry.subjects) == set(CURRENT)
        for name, (text,) in registry.subjects.items():
            assert json.loads(text) == CURRENT[name]

    def test_ids_are_asked_for_once(self, registry):
        ids = RegistryIds(quick(registry.url))
        codec = Codec(ids)
        asked = len(registry.requests)
        for _ in range(3):
            assert codec.decode(codec.encode(COMMAND)) == COMMAND
        assert len(registry.requests) == asked == len(CURRENT)
        ids.close()

    def test_a_schema_that_another_release_registered_is_fetched_once(self, registry):
        ids = RegistryIds(quick(registry.url))
        codec = Codec(ids)
        newer = copy.deepcopy(CURRENT["shutterwheel.DeviceOnline"])
        newer["fields"].append({"name": "extra", "type": "string", "default": ""})
        schema_id = registry.put(json.dumps(newer))
        data = b"\x00" + schema_id.to_bytes(4, "big") + b"\x02d\x0a\x01\x06abc"
        for _ in range(3):
            assert codec.decode(data) == DeviceOnline("d", 5, flapping=True)
        assert Counter(registry.requests)[f"GET /schemas/ids/{schema_id}"] == 1
        ids.close()

    def test_an_unknown_id_is_asked_for_again_only_after_a_while(self, registry):
        """Poison must not become a flood of requests, nor a late schema stay unknown."""
        now = [100.0]
        ids = RegistryIds(quick(registry.url, unknown_memory_ms=30_000), clock=lambda: now[0])
        late = copy.deepcopy(CURRENT["shutterwheel.DeviceOnline"])
        late["fields"].append({"name": "late", "type": "long", "default": 0})
        schema_id = len(registry.ids) + 1
        for _ in range(5):
            assert ids.schema_of(schema_id) is None
        assert Counter(registry.requests)[f"GET /schemas/ids/{schema_id}"] == 1
        assert registry.put(json.dumps(late)) == schema_id
        assert ids.schema_of(schema_id) is None
        now[0] += 30.1
        assert ids.schema_of(schema_id) == ("shutterwheel.DeviceOnline", late)
        ids.close()

    @pytest.mark.parametrize(
        ("text", "schema_type", "code"),
        [
            (
                '{"type": "record", "name": "Foo", "namespace": "com.acme", "fields": []}',
                "AVRO",
                "unknown_schema",
            ),
            ('"string"', "AVRO", "unknown_schema"),
            ("syntax = 'proto3';", "PROTOBUF", "unknown_schema"),
            ('{"type": "object"}', "JSON", "unknown_schema"),
            (
                '{"type": "record", "name": "shutterwheel.DeviceOnline", "fields": []}',
                "AVRO",
                "incompatible_schema",
            ),
            (
                '{"type": "record", "name": "shutterwheel.DeviceOnline", "fields": 3}',
                "AVRO",
                "incompatible_schema",
            ),
        ],
    )
    def test_schemas_that_are_not_ours_are_bad_data(self, registry, text, schema_type, code):
        ids = RegistryIds(quick(registry.url))
        schema_id = registry.put(text, schema_type)
        with pytest.raises(DecodeError) as caught:
            Codec(ids).decode(b"\x00" + schema_id.to_bytes(4, "big") + b"\x02d\x0a")
        assert caught.value.code == code
        ids.close()

    def test_without_register_the_schemas_must_be_there(self, registry):
        with pytest.raises(SchemaError, match="has no schema for shutterwheel"):
            RegistryIds(quick(registry.url, register=False))
        assert registry.subjects == {}
        first = RegistryIds(quick(registry.url))
        second = RegistryIds(quick(registry.url, register=False))
        assert [first.id_of(n) for n in CURRENT] == [second.id_of(n) for n in CURRENT]
        first.close()
        second.close()

    def test_whoever_lets_go_of_the_ids_hangs_up(self, registry):
        """Publishers, results and checks have a codec each: none leaves a socket behind."""
        codec = Codec(RegistryIds(quick(registry.url)))
        assert connections(registry.url) == 1
        del codec
        assert connections(registry.url) == 0

    def test_an_incompatible_schema_is_refused_in_one_line(self, registry):
        grown = copy.deepcopy(dict(CURRENT))
        grown["shutterwheel.DeviceProfile"]["fields"].append({"name": "x", "type": "long"})
        RegistryIds(quick(registry.url), grown).close()
        with pytest.raises(
            SchemaError, match=r"refused shutterwheel\.DeviceProfile.*\['x'\]"
        ) as caught:
            RegistryIds(quick(registry.url))
        assert "\n" not in caught.value.line()
        assert not caught.value.retryable

    @pytest.mark.parametrize(
        ("answer", "error", "said"),
        [
            (
                (503, {"error_code": 50003, "message": "leader unknown"}),
                BrokerError,
                "leader unknown",
            ),
            ((500, "<html>oops</html>"), BrokerError, "failed"),
            ((401, {"error_code": 40101, "message": "who are you"}), SchemaError, "who are you"),
            (
                (200, "<html>a web page</html>"),
                BrokerError,
                "does not behave like a schema registry",
            ),
            ((200, {}), BrokerError, "does not behave like a schema registry"),
            ((200, []), BrokerError, "does not behave like a schema registry"),
        ],
    )
    def test_a_registry_in_trouble_is_one_clear_line(self, registry, answer, error, said):
        """Issue 3 'Bad input': one clear line."""
        registry.fail = answer
        with pytest.raises(error, match=said) as caught:
            RegistryIds(quick(registry.url))
        assert registry.url in str(caught.value)
        assert "\n" not in caught.value.line()

    def test_a_registry_that_is_down_later_does_not_make_good_data_bad(self, registry):
        """A record that cannot be looked up now must not be dead-lettered."""
        ids = RegistryIds(quick(registry.url))
        codec = Codec(ids)
        registry.fail = (503, {"error_code": 50003, "message": "gone"})
        with pytest.raises(BrokerError) as caught:
            codec.decode(b"\x00\x00\x01\x00\x00\x00")
        assert caught.value.retryable
        assert codec.decode(codec.encode(DeviceProfile("d", "a", "p"))) == DeviceProfile(
            "d", "a", "p"
        )
        ids.close()

    def test_nobody_listens(self):
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
            with pytest.raises(BrokerError, match="cannot be reached"):
                RegistryIds(quick(url))

    def test_an_address_that_is_none(self):
        with pytest.raises(SchemaError, match="Give it as http://host:port"):
            RegistryIds(quick("registry.example:8081"))


@pytest.mark.long
class TestApicurio:
    """What the registry in memory only plays, shown by a real one (issue 7)."""

    def test_what_others_could_not_read_is_refused_in_one_line(self, apicurio):
        RegistryIds(quick(apicurio.url)).close()
        name = "shutterwheel.DeviceOnline"
        grown = copy.deepcopy(CURRENT[name])
        grown["fields"].append({"name": "x", "type": "long"})
        with pytest.raises(SchemaError, match=r"refused shutterwheel\.DeviceOnline") as caught:
            RegistryIds(quick(apicurio.url), {name: grown})
        assert "\n" not in caught.value.line()
        assert apicurio.ask("GET", f"/subjects/{name}/versions") == [1]

    def test_a_newer_release_is_taken_and_read_by_the_older(self, apicurio):
        """A field with a default: today's reader meets the id in a record, asks, and reads it."""
        name = "shutterwheel.DeviceOffline"
        older = RegistryIds(quick(apicurio.url))
        grown = copy.deepcopy(CURRENT[name])
        grown["fields"].append({"name": "x", "type": "long", "default": 0})
        newer = RegistryIds(quick(apicurio.url), {name: grown})
        assert newer.id_of(name) != older.id_of(name)
        record = DeviceOffline("d", 5, 4, flapping=True)
        data = Codec(older).encode(record)
        data = b"\x00" + newer.id_of(name).to_bytes(4, "big") + data[5:] + b"\x0e"
        assert Codec(older).decode(data) == record
        older.close()
        newer.close()
