"""What records say of bindings and users, and back."""

import socket

from relayd.core.endpoint import Address, Local
from relayd.core.session import Binding, Session, User
from relayd.core.wire import Port
from relayd.forwarding.asked import local_of
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


def local_from(identity: Identity) -> Local | None:
    """The address of this host that the peer of a binding sends to, as the core keeps it."""
    if identity.local == layout.NO_LOCAL:
        return None
    return local_of(identity.local[:4] if identity.family == socket.AF_INET else identity.local, identity.scope)


def identity_of(binding: Binding) -> Identity:
    """What the record of a binding says."""
    user = binding.user
    family, peer_port, scope, ip = pack_address(binding.address)
    return Identity(
        kind=Kind.BINDING,
        port=binding.port,
        undecided=binding.connection_undecided,
        family=family,
        endpoint=binding.endpoint.number,
        peer_port=peer_port,
        user=user.token,
        session=user.session.token,
        connection_id=user.connection_id if binding.port is Port.CLIENT else 0,
        scope=scope,
        ip=ip,
        local=binding.local[:16].ljust(16, b"\0") if binding.local is not None else layout.NO_LOCAL,
        game=layout.game_of(user.session.session_id),
    )


def account_of(user: User, span: bytes) -> Identity:
    """What the account of a user says, whose counts go under that span."""
    return _of_no_binding(Kind.ACCOUNT, user.session, span, user.token, user.connection_id)


def sum_of_revoked(session: Session, span: bytes) -> Identity:
    """What the sum of a session's revoked users says, which goes under that span."""
    return _of_no_binding(Kind.REVOKED, session, span)


def _of_no_binding(kind: Kind, session: Session, span: bytes, user: int = 0, connection_id: int = 0) -> Identity:
    return Identity(
        kind=kind,
        port=0,
        undecided=False,
        family=0,
        endpoint=0,
        peer_port=0,
        user=user,
        session=session.token,
        connection_id=connection_id,
        scope=0,
        ip=span,
        local=layout.NO_LOCAL,
        game=layout.game_of(session.session_id),
    )
