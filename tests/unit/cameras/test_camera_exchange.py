"""The layers of the HTTP exchange, each by itself: resolver, socket, login (SPEC 3.1, 3.2)."""

from __future__ import annotations

import socket

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from connectors.cameras.base import CameraSettings
from connectors.cameras.credentials import Credentials, LocalCredentials
from connectors.cameras.exchange import CheckingResolver, HttpExchange
from connectors.cameras.login import Login, Logins
from connectors.cameras.policy import AddressPolicy
from schemas.errors import CameraError
from schemas.records import DeviceProfile

ONLY_TEN = AddressPolicy(("10.0.0.0/8",))


async def test_a_name_that_resolves_to_a_forbidden_address_is_refused():
    with pytest.raises(CameraError) as caught:
        await CheckingResolver(ONLY_TEN).resolve("localhost", 80)
    assert caught.value.cause == "address_not_allowed"


async def test_a_name_that_resolves_to_a_permitted_address_is_resolved():
    found = await CheckingResolver(AddressPolicy()).resolve("localhost", 80)
    assert {result["host"] for result in found} <= {"127.0.0.1", "::1"}
    assert found


def test_no_socket_is_made_for_a_forbidden_address():
    settings = CameraSettings()
    exchange = HttpExchange(settings, ONLY_TEN, LocalCredentials(settings))
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    with pytest.raises(CameraError) as caught:
        exchange._socket((*kind, ("127.0.0.1", 80)))
    assert caught.value.cause == "address_not_allowed"
    with exchange._socket((*kind, ("10.0.0.1", 80))) as made:
        assert made.family == socket.AF_INET


async def test_a_closed_exchange_opens_nothing():
    settings = CameraSettings()
    exchange = HttpExchange(settings, AddressPolicy(), LocalCredentials(settings))
    await exchange.close()
    with pytest.raises(CameraError, match="closed"):
        exchange._open()


def asked(*challenges):
    return CIMultiDictProxy(CIMultiDict([("WWW-Authenticate", text) for text in challenges]))


@pytest.mark.parametrize(
    ("challenges", "answers"),
    [
        (("Basic realm=x",), True),
        (("basic",), True),
        (("Negotiate", "Basic realm=x"), True),
        (("Digest realm=x, nonce=y", "Basic realm=x"), False),
        (("Digest realm=x, nonce=y",), False),
        (("Bearer",), False),
        ((), False),
    ],
)
def test_basic_is_sent_when_asked_for_and_never_after_a_digest(challenges, answers):
    """A digest that was refused must not be followed by the password in the clear."""
    login = Login(Credentials("admin", "pa55"))
    assert login.answer(asked(*challenges)) is answers
    assert ("Authorization" in login.headers) is answers
    assert login.answer(asked("Basic")) is (not answers), "one challenge is answered once"


def test_a_bearer_token_is_sent_at_once_and_never_turned_into_something_else():
    login = Login(Credentials(token="t0ken"))
    assert login.headers == {"Authorization": "Bearer t0ken"}
    assert not login.answer(asked("Basic"))


def test_a_login_is_kept_until_the_credentials_change_or_it_is_forgotten(monkeypatch):
    logins = Logins(LocalCredentials(CameraSettings()))
    profile = DeviceProfile("d", "http://10.0.0.1/", "http-json", credentials_ref="env:CAMERA_X")
    monkeypatch.setenv("CAMERA_X", "admin:one")
    first = logins.get(profile)
    assert logins.get(profile) is first
    monkeypatch.setenv("CAMERA_X", "admin:two")
    second = logins.get(profile)
    assert second is not first
    logins.forget(profile)
    assert logins.get(profile) is not second
