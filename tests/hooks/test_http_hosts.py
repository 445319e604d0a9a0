"""Which hosts may be called: without a setting, with names, with networks, and whatever a name resolves to."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from airflow_monai.errors import InvalidArgument, SettingsError
from airflow_monai.hooks.http_hosts import HostRules, HostUnknown

METADATA = ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "100.100.100.200", "0.0.0.0", "::"]


def allowed(host: str, *patterns: str) -> bool:
    try:
        return bool(asyncio.run(HostRules.parse(patterns).addresses(host, 80)))
    except InvalidArgument:
        return False


@pytest.mark.parametrize("address", METADATA)
def test_addresses_with_credentials_of_the_machine_are_never_called(address: str) -> None:
    assert not allowed(address)
    assert not allowed(address, "*")
    with pytest.raises(InvalidArgument):
        HostRules().check_name(address)


def test_a_network_that_is_named_opens_them() -> None:
    assert allowed("169.254.169.254", "169.254.169.254/32")
    assert not allowed("169.254.169.253", "169.254.169.254/32")


@pytest.mark.parametrize(
    ("host", "patterns", "may"),
    [
        ("127.0.0.1", (), True),
        ("localhost", (), True),
        ("localhost", ("local*",), True),
        ("LOCALHOST", ("localhost",), True),
        ("localhost", ("*.hospital.example",), False),
        ("localhost", ("127.0.0.0/8", "::1"), True),
        ("127.0.0.1", ("10.0.0.0/8",), False),
        ("127.0.0.1", ("10.0.0.0/8", "127.0.0.1"), True),
    ],
)
def test_names_and_networks(host: str, patterns: tuple[str, ...], may: bool) -> None:
    assert allowed(host, *patterns) is may


@pytest.mark.parametrize(
    ("host", "may"),
    [("ai.hospital.example", True), ("hospital.example", False), ("evil-hospital.example", False), ("10.1.2.3", False)],
)
def test_a_host_behind_a_proxy_is_known_by_its_name(host: str, may: bool) -> None:
    rules = HostRules.parse(["*.hospital.example"])
    if may:
        rules.check_name(host)
    else:
        with pytest.raises(InvalidArgument, match="http_allowed_hosts"):
            rules.check_name(host)


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(HostUnknown):
        asyncio.run(HostRules().addresses("no-such-host.invalid", 80))


@pytest.mark.parametrize("pattern", ["https://x.example", "a b", "user@x", "10.0.0.0/99"])
def test_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(SettingsError, match="http_allowed_hosts"):
        HostRules.parse([pattern])


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"])
def test_a_proxy_is_asked_for_no_metadata_in_another_spelling(host: str) -> None:
    with pytest.raises(InvalidArgument):
        HostRules().check_name(host)
    HostRules().check_name("pacs.hospital.example")


def test_an_address_behind_nat64_is_the_one_of_ipv4() -> None:
    """RFC 6052 section 2.1."""
    with pytest.raises(InvalidArgument):
        asyncio.run(HostRules().addresses("64:ff9b::a9fe:a9fe", 80))
    assert asyncio.run(HostRules().addresses("64:ff9b::a01:203", 80)) == ["64:ff9b::a01:203"]


@pytest.mark.parametrize(
    "address",
    [
        "2002:a9fe:a9fe::1",  # 6to4, RFC 3056
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2001:0:102:304:0:0:5601:5601",  # Teredo, RFC 4380: the client
    ],
)
def test_an_address_that_leads_to_one_of_ipv4_is_that_one(address: str) -> None:
    with pytest.raises(InvalidArgument):
        asyncio.run(HostRules().addresses(address, 80))
    assert not allowed(address, "*")
    assert allowed("::1", "::1") and allowed("::1", "*") and not allowed("::", "*")
    assert allowed("2002:a01:203::1", "10.1.0.0/16") and not allowed("2002:a02:203::1", "10.1.0.0/16")


@pytest.mark.parametrize("patterns", [("*.hospital.example",), ("ris", "*.x.example")])
def test_a_name_that_is_not_allowed_is_not_looked_up(
    monkeypatch: pytest.MonkeyPatch, patterns: tuple[str, ...]
) -> None:
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or [])
    with pytest.raises(InvalidArgument, match="may not be called"):
        asyncio.run(HostRules.parse(patterns).addresses("told-to.attacker.example", 80))
    assert asked == []


def test_a_slow_resolver_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        answers.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    with pytest.raises((TimeoutError, asyncio.TimeoutError)):
        asyncio.run(asyncio.wait_for(HostRules().addresses("slow.example", 80), 0.2))
    assert time.monotonic() - began < 30
    answers.set()
