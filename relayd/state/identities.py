"""What records say of bindings and users, and back."""

import socket

from relayd.core.endpoint import Address
from relayd.core.session import Binding, User
from relayd.core.wire import Port
from relayd.state import layout
from relayd.state.layout import Identity, Kind


def pack_address(address: Address) -> tuple[int, int, int, bytes]:
    """Family, port, scope and the 16 bytes of the IP address."""
    ip, port, *more = address
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, port, more[1] if more else 0, socket.inet_pton(family, ip).ljust(16, b"\0")


def unpack_address(identity: Identity) -> Address:
    """The peer of a binding, as sockets name it."""
    if identity.family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, identity.ip[:4]), identity.peer_port
    return socket.inet_ntop(identity.family, identity.ip), identity.peer_port, 0, identity.scope


def identity_of(binding: Binding) -> Identity:
    """What the record of a binding says."""
    user = binding.user
    return Identity(
        Kind.BINDING,
        binding.port,
        binding.connection_undecided,
        user.token,
        user.session.token,
        user.connection_id if binding.port is Port.CLIENT else 0,
        binding.endpoint.number,
        *pack_address(binding.address),
        layout.game_of(user.session.session_id),
    )


def account_of(user: User, span: bytes) -> Identity:
    """What the account of a user says, whose counts go under that span."""
    session = user.session
    game = layout.game_of(session.session_id)
    return Identity(Kind.ACCOUNT, 0, False, user.token, session.token, user.connection_id, 0, 0, 0, 0, span, game)
