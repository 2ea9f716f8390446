"""The records of the state file: what is written is read again, and nothing else is."""

from hypothesis import given
from hypothesis import strategies as st

from relayd.core.wire import MAX_CONNECTION_ID, Port
from relayd.state import layout
from relayd.state.layout import Identity, Kind

_u32 = st.integers(0, 2**32 - 1)
_16_bytes = st.binary(min_size=16, max_size=16)


def _built(kinds: st.SearchStrategy[Kind], port: int, ids: st.SearchStrategy[int]) -> st.SearchStrategy[Identity]:
    return st.builds(
        Identity,
        kind=kinds,
        port=st.just(port),
        undecided=st.booleans(),
        family=st.sampled_from((2, 10)),
        endpoint=st.integers(0, 63),
        peer_port=st.integers(1, 65535),
        user=_u32,
        session=_u32,
        connection_id=ids,
        scope=_u32,
        ip=_16_bytes,
        local=_16_bytes,
        game=st.binary(min_size=4, max_size=4),
    )


_ids = st.integers(1, MAX_CONNECTION_ID)
_identities = st.one_of(
    _built(st.just(Kind.BINDING), Port.CLIENT, _ids),
    _built(st.just(Kind.BINDING), Port.SERVER, st.just(0)),
    _built(st.sampled_from((Kind.ACCOUNT, Kind.REVOKED)), 0, _ids),
)


def line(identity: Identity) -> bytes:
    body = layout.encode(identity)
    return layout.checksum(body) + body


@given(_identities)
def test_what_is_written_is_read(identity: Identity) -> None:
    written = line(identity)
    assert len(written) == layout.COUNTS_AT
    assert layout.decode(written) == identity


@given(_identities, st.integers(0, layout.COUNTS_AT - 1), st.integers(1, 255))
def test_a_byte_that_changed_is_noticed(identity: Identity, where: int, change: int) -> None:
    damaged = bytearray(line(identity))
    damaged[where] ^= change
    assert layout.decode(bytes(damaged)) is None


@given(st.binary(min_size=layout.COUNTS_AT, max_size=layout.COUNTS_AT))
def test_bytes_that_nobody_wrote_are_no_record(content: bytes) -> None:
    assert layout.decode(content) is None


def test_an_empty_place_is_no_record() -> None:
    assert layout.decode(bytes(layout.COUNTS_AT)) is None


def test_the_parts_do_not_overlap() -> None:
    assert layout.HEADER_CHECKSUM_AT + 4 <= layout.HEARTBEAT_AT
    assert layout.HEARTBEAT_AT + layout.HEARTBEAT.size <= layout.COUNTERS_AT
    assert layout.DECISIONS_AT + 2 * 5 * 16 <= layout.TOMBSTONES_AT
    assert layout.LAST_SEEN.size + layout.COUNTS.size <= layout.RECORD_BYTES - layout.COUNTS_AT
    assert layout.RECORDS_AT % 64 == layout.RECORD_BYTES % 64 == layout.COUNTS_AT % 64 == 0
