/* Written from relayd/core/wire.py by `make generate`: not to be edited. */
#ifndef RELAYD_GENERATED_WIRE_H
#define RELAYD_GENERATED_WIRE_H

#define PING 1
#define DATA 2
#define USER_OFFSET 0
#define SESSION_OFFSET 4
#define TYPE_OFFSET 8
/* Both tokens and the type: all of a PING, and what stands before a player's payload. */
#define HEADER_BYTES 9
/* The same with the connection id, which stands before a host's payload. */
#define HOST_DATA_HEADER_BYTES 13
/* What stands before the payload on the relay's way to a host: type and connection id. */
#define TO_HOST_HEADER_BYTES 5
/* What stands before the payload on the relay's way to a player: the type. */
#define TO_PLAYER_HEADER_BYTES 1
/* All of a PING of the relay: type and state. */
#define STATE_BYTES 2
/* Longest datagram towards the relay, so that no leg is ever fragmented. */
#define MAX_DATAGRAM_BYTES 1200
/* 1,187: what fits in both directions. */
#define MAX_PAYLOAD_BYTES 1187
/* A player's payload begins with KCP's channel byte; its connection cookie follows. */
#define COOKIE_OFFSET 10
#define MAX_TOKEN 4294967295u
#define MAX_CONNECTION_ID 2147483647

enum port {
	SERVER = 0,
	CLIENT = 1,
	PORTS = 2,
};

enum peer_state {
	STATE_DISCONNECTED = 0,
	STATE_CHECKING = 1,
	STATE_VALID = 2,
	STATE_INVALID = 3,
	STATE_SESSION_TIMEOUT = 4,
	STATE_ERROR = 5,
	STATES = 6,
};

#endif
