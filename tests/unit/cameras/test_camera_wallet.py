"""Credentials of a keyring or a vault: fetched once, in time, and shown nowhere (issue 6)."""

from __future__ import annotations

import asyncio
import threading
import traceback

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from connectors.cameras import Cameras, CameraSettings
from connectors.cameras.base import CAUSES
from connectors.cameras.credentials import Credentials
from connectors.cameras.simulated import SimulatedCameras
from connectors.cameras.wallet import KeyringSource, Wallet, keyring_of
from schemas.errors import CameraError
from schemas.records import CaptureCommand, DeviceProfile

SECRET = "pa55-in-the-vault"


class Vault:
    """A source as somebody else would write it."""

    def __init__(self):
        self.texts = {"gate": f"admin:{SECRET}"}
        self.asked = []
        self.error = None
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, name):
        self.asked.append(name)
        await self.open.wait()
        if self.error:
            raise self.error
        return self.texts[name]


class Watch:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


def soon(seconds=20.0):
    return asyncio.get_running_loop().time() + seconds


@pytest.fixture
def vault():
    return Vault()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def wallet(vault, watch):
    return Wallet(CameraSettings(credential_ttl_ms=60_000), {"vault": vault}, now_s=watch)


async def refused(wallet, reference, seconds=20.0):
    with pytest.raises(CameraError) as caught:
        await wallet.load(reference, deadline_s=soon(seconds))
        wallet.get(reference)
    assert caught.value.cause in CAUSES
    assert "pa55" not in "".join(traceback.format_exception(caught.value))
    return caught.value


async def test_a_vault_is_asked_once_for_all_who_wait(wallet, vault):
    vault.open.clear()
    waiting = [
        asyncio.create_task(wallet.load("vault:gate", deadline_s=soon())) for _ in range(1_000)
    ]
    await asyncio.sleep(0)
    vault.open.set()
    await asyncio.gather(*waiting)
    assert vault.asked == ["gate"]
    assert wallet.get("vault:gate") == Credentials("admin", SECRET)


async def test_what_it_gave_is_believed_for_its_time(wallet, vault, watch):
    await wallet.load("vault:gate", deadline_s=soon())
    vault.texts["gate"] = "admin:changed"
    watch.now_s = 59.0
    await wallet.load("vault:gate", deadline_s=soon())
    assert wallet.get("vault:gate").password == SECRET
    watch.now_s = 60.0
    await wallet.load("vault:gate", deadline_s=soon())
    assert wallet.get("vault:gate").password == "changed"


async def test_a_vault_that_does_not_answer_costs_the_deadline_and_no_more(wallet, vault):
    vault.open.clear()
    error = await refused(wallet, "vault:gate", seconds=0.05)
    assert (error.cause, error.retry) == ("credentials", True)
    vault.open.set()
    await wallet.load("vault:gate", deadline_s=soon())
    assert wallet.get("vault:gate").password == SECRET
    assert vault.asked == ["gate"], "the first question was still open"


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(wallet, vault):
    vault.open.clear()
    patient = asyncio.create_task(wallet.load("vault:gate", deadline_s=soon()))
    await refused(wallet, "vault:gate", seconds=0.01)
    vault.open.set()
    await patient
    assert wallet.get("vault:gate").password == SECRET


@pytest.mark.parametrize(
    ("error", "cause", "retry"),
    [
        (OSError(f"{SECRET} at https://vault/?token={SECRET}"), "credentials", True),
        (KeyError(SECRET), "credentials", True),
        (CameraError("auth", "no such entry", retry=False), "auth", False),
    ],
)
async def test_a_vault_that_fails_is_not_asked_by_each(wallet, vault, watch, error, cause, retry):
    """What a source says when it fails may hold anything, so it is not repeated."""
    vault.error = error
    for _ in range(3):
        got = await refused(wallet, "vault:gate")
        assert (got.cause, got.retry) == (cause, retry)
    assert len(vault.asked) == 1
    vault.error = None
    watch.now_s = 5.0
    await wallet.load("vault:gate", deadline_s=soon())
    assert wallet.get("vault:gate").password == SECRET


async def test_text_that_is_no_credential_is_refused_and_not_shown(wallet, vault):
    vault.texts["gate"] = "pa55-without-a-user"
    error = await refused(wallet, "vault:gate")
    assert (error.cause, error.retry) == ("auth", False)


async def test_variables_and_files_are_read_as_before(wallet, monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:one")
    await wallet.load("env:CAMERA_GATE", deadline_s=soon())
    assert wallet.get("env:CAMERA_GATE").password == "one"
    monkeypatch.setenv("CAMERA_GATE", "admin:two")
    assert wallet.get("env:CAMERA_GATE").password == "two"
    assert (await refused(wallet, "pigeon:gate")).cause == "auth"


def test_it_shows_nothing_of_what_it_keeps(wallet, vault):
    asyncio.run(wallet.load("vault:gate", deadline_s=1e12))
    assert "pa55" not in repr(wallet)
    assert "pa55" not in repr(wallet.__dict__)


# --- the keyring ----------------------------------------------------------------------------------


class Memory(KeyringBackend):
    """A keyring as the library's own interface has it."""

    priority = 1

    def __init__(self):
        self.entries = {("shutterwheel", "gate"): f"admin:{SECRET}", ("bank", "gate"): "x:pa55"}
        self.error = None
        self.unlocked = threading.Event()
        self.unlocked.set()

    def get_password(self, service, username):
        self.unlocked.wait()
        if self.error:
            raise self.error
        return self.entries.get((service, username))

    def set_password(self, service, username, password):
        raise AssertionError("nothing of ours writes to a keyring")


@pytest.fixture
def memory():
    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    made = keyring.get_keyring()
    yield made
    made.unlocked.set()
    keyring.set_keyring(before)


@pytest.fixture
def keys():
    settings = CameraSettings()
    return Wallet(settings, keyring_of(settings))


async def test_an_entry_of_the_keyring_is_found(memory, keys):
    await keys.load("keyring:gate", deadline_s=soon())
    assert keys.get("keyring:gate") == Credentials("admin", SECRET)


async def test_an_entry_that_is_not_there_says_how_to_make_it(memory, keys):
    error = await refused(keys, "keyring:yard")
    assert (error.cause, error.retry) == ("auth", False)
    assert "keyring set shutterwheel yard" in str(error)


async def test_entries_of_other_services_are_out_of_reach(memory, keys):
    for name in ("bank/gate", "bank:gate", "../bank/gate"):
        assert (await refused(keys, f"keyring:{name}")).cause == "auth"


async def test_a_locked_keyring_may_be_open_later(memory, keys):
    memory.error = KeyringLocked(f"could not unlock {SECRET}")
    error = await refused(keys, "keyring:gate")
    assert (error.cause, error.retry) == ("credentials", True)


async def test_a_keyring_that_waits_for_somebody_holds_nobody(memory, keys):
    """A desktop asks a person to unlock it; on a server nobody is there to answer."""
    memory.unlocked.clear()
    for name in range(6):
        error = await refused(keys, f"keyring:{name}", seconds=0.02)
        assert (error.cause, error.retry) == ("credentials", True)
    waiting = [t for t in threading.enumerate() if t.name == "keyring"]
    assert len(waiting) <= 4
    assert all(t.daemon for t in waiting), "the program may end without them"
    memory.unlocked.set()
    for thread in waiting:
        thread.join(20)


async def test_without_a_keyring_it_says_so(keys):
    """Headless: the library's own backend for a machine that has none."""
    before = keyring.get_keyring()
    from keyring.backends.fail import Keyring as NoKeyring

    keyring.set_keyring(NoKeyring())
    try:
        error = await refused(keys, "keyring:gate")
    finally:
        keyring.set_keyring(before)
    assert (error.cause, error.retry) == ("auth", False)
    assert "file: or env:" in str(error)


async def test_without_the_library_it_says_what_to_install(keys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "keyring", None)
    error = await refused(keys, "keyring:gate")
    assert (error.cause, error.retry) == ("auth", False)
    assert "shutterwheel[keyring]" in str(error)


async def test_a_camera_opens_with_what_the_keyring_holds(memory):
    """Issue 6: credentials by reference, here the keyring, all the way to a photo."""
    from connectors.cameras.faults import Fault

    fault = Fault("digest", user="admin", password=SECRET)
    async with SimulatedCameras(1, faults={"cam-00001": fault}) as fleet, Cameras() as cameras:
        profile = DeviceProfile(
            "cam-00001", fleet.url("cam-00001"), "http-snapshot", credentials_ref="keyring:gate"
        )
        command = CaptureCommand(1, "cam-00001", "s", "", 1, 0, 0, 0, 3_000, 0, 0)
        frame = await cameras.capture(profile, command, deadline_s=soon())
    assert frame.width_px


async def test_a_source_is_no_part_of_a_message(memory):
    assert "pa55" not in repr(KeyringSource("shutterwheel").__dict__)
