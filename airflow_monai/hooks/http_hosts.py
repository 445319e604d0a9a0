"""Which hosts a workflow may call.

Without a setting that is every host but the addresses at which clouds hand out a machine's own credentials, and others
that no service has. What a name resolves to is checked, and the request then goes to just that address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from airflow_monai.errors import InvalidArgument, SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "169.254.0.0/16", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "224.0.0.0/4",
        "255.255.255.255/32", "::/128", "fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128", "ff00::/8",
    )
)  # fmt: skip
"""Link-local and metadata addresses, multicast, and those that mean no host; only an address range that the site
allows by name opens them."""


_ENDS_IN_IPV4 = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96"))
)  # RFC 6052, RFC 8215, RFC 7915, RFC 4291 section 2.5.5.1
"""Networks of IPv6 that translators map onto IPv4: the last four bytes are an address of it."""
_NO_ADDRESSES = (ipaddress.IPv6Address("::"), ipaddress.IPv6Address("::1"))


class HostUnknown(Exception):
    """A name that does not resolve now."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """The hosts that may be called.

    :param names: patterns with ``*``; none, and no networks either, for every host.
    :param option: the one that says it, for messages.
    """

    names: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    option: str = "http_allowed_hosts"

    @classmethod
    def parse(cls, patterns: Iterable[str], option: str = "http_allowed_hosts") -> HostRules:
        """Rules of host names with ``*`` for anything, addresses, and networks as ``10.1.0.0/16``.

        :raises SettingsError: when one is none of these.
        """
        names, networks = [], []
        for pattern in patterns:
            network = _network(pattern)
            if network is not None:
                networks.append(network)
            elif set(pattern) & set("/:@ "):
                raise SettingsError(
                    f"[monai] {option}: {pattern!r} is no host name, address or network. Write for example "
                    "*.hospital.example, 10.1.0.0/16."
                )
            else:
                names.append(pattern.lower())
        return cls(tuple(names), tuple(networks), option)

    def check_name(self, host: str) -> None:
        """For a host that a proxy looks up.

        :raises InvalidArgument: when it may not be called.
        """
        address = _address(host)
        if address is not None:
            self._check(host, [address])
        elif (self.names or self.networks) and not self._named(host):
            raise _refused(host, self.option)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Where the host is. A name is looked up only where it may be allowed: by itself, or by what it resolves to.

        :raises InvalidArgument: when it may not be called, or any of its addresses may not.
        :raises HostUnknown: when its name does not resolve now.
        """
        if not self.networks:
            self.check_name(host)
        try:
            found = await _looked_up(host, port)
        except (OSError, UnicodeError):
            raise HostUnknown(host) from None
        texts = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
        self._check(host, [ipaddress.ip_address(text) for text in texts])
        return texts

    def _check(self, host: str, addresses: list[Address]) -> None:
        is_named = self._named(host) or not (self.names or self.networks)
        for address in addresses:
            forms = _forms(address)
            if any(form in network for form in forms for network in self.networks):
                continue
            if not is_named or any(form in network for form in forms for network in NEVER):
                raise _refused(host, self.option)

    def _named(self, host: str) -> bool:
        return any(fnmatchcase(host.lower().rstrip("."), name) for name in self.names)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(text: str) -> Address | None:
    """The address that a text is, also in the spellings of IPv4 that only resolvers know: 0xa9fea9fe, 169.254.43518."""
    with suppress(ValueError):
        return ipaddress.ip_address(text.strip("[]"))
    with suppress(OSError, UnicodeError):
        return ipaddress.IPv4Address(socket.inet_aton(text))
    return None


async def _looked_up(host: str, port: int) -> list[Any]:
    """What ``getaddrinfo`` says. Its thread can be left behind: one of asyncio's own would be waited for at the end of
    the loop, however long a resolver takes."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def tell(found: list[Any] | Exception) -> None:
        if answer.done():
            return
        if isinstance(found, Exception):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def look() -> None:
        found: list[Any] | Exception
        try:
            found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            found = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=look, name="look-up", daemon=True).start()
    return await answer


def _forms(address: Address) -> list[Address]:
    """An address, or those of IPv4 that it stands for: the one that it is translated to, or that it is tunnelled to."""
    if not isinstance(address, ipaddress.IPv6Address) or address in _NO_ADDRESSES:
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if any(address in network for network in _ENDS_IN_IPV4):
        return [ipaddress.IPv4Address(address.packed[-4:])]
    if address.sixtofour is not None:
        return [address.sixtofour]
    return list(address.teredo) if address.teredo is not None else [address]


def _refused(host: str, option: str) -> InvalidArgument:
    return InvalidArgument(
        f"The host {host[:200]} may not be called from here. Whoever runs this site can allow it: [monai] {option}."
    )
