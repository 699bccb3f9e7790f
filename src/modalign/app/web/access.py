"""Address of a server, accepted host names, and token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass

from modalign.core.errors import InputError, argument

FIRST_PORT, TRIED_PORTS = 8321, 50
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_ANY = frozenset({"0.0.0.0", "::"})  # all interfaces of the machine


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can reach a server that listens on ``host``."""
    address = _ip(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


@dataclass(frozen=True)
class Access:
    """Address and token of a server.

    Attributes
    ----------
    host : str, default="127.0.0.1"
        Name or address that the server listens on.
    port : int, default=0
        Port that the server listens on.
    token : str or None, default=None
        Token that every request must have; None if no token is needed.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None

    @property
    def url(self) -> str:
        """The address to open in a browser, with the token if there is one."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/{f'?token={self.token}' if self.token else ''}"

    def allows_host(self, header: str) -> bool:
        """Return whether a request with this ``Host`` header is for this server.

        A page of another site can let its own name point to this machine (DNS rebinding); its requests carry that name.
        A server that listens on all interfaces accepts every IP address, which cannot be rebound, and the name of the
        machine.
        """
        name = _host_name(header)
        if name in _LOOPBACK_NAMES or name == self.host.lower():
            return True
        return self.host in _ANY and (_ip(name) is not None or name == socket.gethostname().lower())


def listen(
    host: str = "127.0.0.1", port: int | None = None, *, token: str | None = None
) -> tuple[socket.socket, Access]:
    """A listening socket and its address.

    Parameters
    ----------
    host : str, default="127.0.0.1"
        Name or address to listen on. For one that other machines can reach, a token is made if none is given.
    port : int or None, default=None
        Port to listen on; None is the first free one from 8321 on.
    token : str or None, default=None
        Token that every request must have.

    Raises
    ------
    InputError
        The port is in use, or the machine has no such address.
    """
    if port is not None and not 0 <= port < 2**16:
        raise InputError(f"Expected {argument('port')} from 0 to 65535, got {port}.")  # getaddrinfo takes its last bits
    if not host.isprintable():
        raise InputError(f"Expected a name or address to listen on, got {host!r:.60}.")
    token = token or (None if is_loopback(host) else secrets.token_urlsafe(24))
    wanted = [port] if port is not None else [*range(FIRST_PORT, FIRST_PORT + TRIED_PORTS), 0]
    reason: OSError | UnicodeError | None = None
    for number in wanted:
        try:
            opened = _bind(host, number)
        except (OSError, UnicodeError) as error:  # not a valid host name
            reason = error
            continue
        return opened, Access(host, opened.getsockname()[1], token)
    assert reason is not None
    raise InputError(
        f"Expected an address to listen on, got '{host}' and {argument('port', str(port or wanted[0]))}: "
        f"{getattr(reason, 'strerror', None) or reason}; choose another port or host."
    ) from None


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(128)
    except OSError:
        opened.close()
        raise
    return opened


def _host_name(header: str) -> str:
    """The name in a ``Host`` header, without port and brackets."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
