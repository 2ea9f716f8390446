/* Written from relayd/core/verdict.py by `make generate`: not to be edited. */
#ifndef RELAYD_GENERATED_VERDICT_H
#define RELAYD_GENERATED_VERDICT_H

enum verdict {
	/* DATA sent on to its peer. */
	FORWARDED = 0,
	/* A PING of a bound user, answered Valid. */
	ANSWERED = 1,
	/* Under 9 bytes, or a host's DATA under 13. */
	TOO_SHORT = 2,
	/* Over 1,200 bytes. */
	TOO_LONG = 3,
	/* Neither PING nor DATA. */
	UNKNOWN_TYPE = 4,
	/* DATA that ends with its header. */
	NO_PAYLOAD = 5,
	/* No session with that token, or no such user in it. */
	UNKNOWN_PAIR = 6,
	/* The session was there and ended a short while ago. */
	SESSION_ENDED = 7,
	/* The user is bound to another address that was heard too recently for a move. */
	ADDRESS_CONFLICT = 8,
	/* pin_ip is on and the session names another address for this user. */
	ADDRESS_REFUSED = 9,
	/* The session has another host, heard within host_timeout. */
	HOST_CONFLICT = 10,
	/* A player's DATA while the session has no host. */
	NO_HOST = 11,
	/* A host's DATA for a connection id that no bound player has. */
	UNKNOWN_CONNECTION = 12,
	/* Over the rate of the user, of its session, or of what is sent to a peer that has not been heard for 5 s. */
	RATE_LIMITED = 13,
	/* The kernel took no more to send (EAGAIN, ENOBUFS). */
	SEND_QUEUE_FULL = 14,
	/* The kernel refused to send it: no route, interface down, too long for the link. */
	SEND_FAILED = 15,
	/* The first datagram of a session at a relay that takes no new ones. */
	DRAINING = 16,
	/* The relay has max_bound_users already. */
	RELAY_FULL = 17,
	/* No relayd was running, only its fast path, which drops what the kernel would answer with an ICMP error. */
	RELAY_AWAY = 18,
	/* From where nobody is bound, and more than relayd can decide on or its fast path lets up. Bound users play
	 * on. */
	OVERLOADED = 19,
	/* From the ports of this relay or of another of its fleet, port 0, a denied network, or an address that no
	 * host has     (multicast, broadcast). */
	BAD_SOURCE = 20,
	/* A known user at a new address, maybe a lucky guess: too many are made from there or in its session. */
	GUESS_LIMITED = 21,
	VERDICTS = 22,
};

/* Names by number, to begin an array with. */
#define VERDICT_LABELS \
	{ \
		[FORWARDED] = "forwarded", \
		[ANSWERED] = "answered", \
		[TOO_SHORT] = "too_short", \
		[TOO_LONG] = "too_long", \
		[UNKNOWN_TYPE] = "unknown_type", \
		[NO_PAYLOAD] = "no_payload", \
		[UNKNOWN_PAIR] = "unknown_pair", \
		[SESSION_ENDED] = "session_ended", \
		[ADDRESS_CONFLICT] = "address_conflict", \
		[ADDRESS_REFUSED] = "address_refused", \
		[HOST_CONFLICT] = "host_conflict", \
		[NO_HOST] = "no_host", \
		[UNKNOWN_CONNECTION] = "unknown_connection", \
		[RATE_LIMITED] = "rate_limited", \
		[SEND_QUEUE_FULL] = "send_queue_full", \
		[SEND_FAILED] = "send_failed", \
		[DRAINING] = "draining", \
		[RELAY_FULL] = "relay_full", \
		[RELAY_AWAY] = "relay_away", \
		[OVERLOADED] = "overloaded", \
		[BAD_SOURCE] = "bad_source", \
		[GUESS_LIMITED] = "guess_limited", \
	}

#endif
