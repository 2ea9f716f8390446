/* SPDX-License-Identifier: Dual BSD/GPL */
/* The judgement: what becomes of a datagram to one of the relay's ports. */
#ifndef RELAYD_KERNEL_DECIDE_H
#define RELAYD_KERNEL_DECIDE_H

#include "../thread/meter.h"
#include "../thread/pings.h"
#include "bound.h"
#include "datagram.h"
#include "pass_up.h"
#include "rewrite.h"
#include "run_time.h"
#include "strangers.h"

static __always_inline struct binding *binding_of(__u32 slot, struct state **state)
{
	if (!slot)
		return 0;
	*state = bpf_map_lookup_elem(&states, &slot);
	return *state ? bpf_map_lookup_elem(&bindings, &slot) : 0;
}

static __always_inline int answer(struct xdp_md *ctx, const struct datagram *d, const struct binding *sender,
				  struct state *state, __u32 slot)
{
	struct pings *answered = bpf_map_lookup_elem(&pings, &slot);
	int exit = -1;

	/* A PING with trailing bytes is valid too, but no client sends one: the engine answers it. */
	if (d->size == HEADER_BYTES)
		exit = send(ctx, d, sender, state, d->port, PING | STATE_VALID << 8, STATE_BYTES, 0);
	if (exit < 0) {
		if (answered)
			answered->last_ns = 0; /* this one is heard elsewhere */
		return PASS_UP;
	}
	if (answered)
		pings_note(answered, d->now_ns);
	count(d, ANSWERED);
	__sync_fetch_and_add(&state->answered_datagrams, 1);
	return exit;
}

/*
 * Who has not been heard here for some seconds may be heard by the sockets, on an interface without this program. They
 * know, and send it little if it is not.
 */
static __always_inline int to_host(struct xdp_md *ctx, const struct datagram *d, const struct binding *player,
				   struct state *player_state)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &player->session_index);
	struct state *host_state = 0;
	struct binding *host;
	int exit;

	if (!session || session->token != d->session)
		return PASS_UP;
	host = binding_of(session->host_slot, &host_state);
	if (!host || host->session != d->session)
		return PASS_UP;
	if (is_silent(host_state->last_seen_ns, d->now_ns))
		return PASS_UP;
	exit = send(ctx, d, host, host_state, SERVER, type_and_connection(DATA, player->connection_id),
		    TO_HOST_HEADER_BYTES, d->size - HEADER_BYTES);
	if (exit < 0)
		return PASS_UP;
	forwarded(d);
	__sync_fetch_and_add(&player_state->to_host_datagrams, 1);
	__sync_fetch_and_add(&player_state->to_host_bytes, d->size);
	return exit;
}

static __always_inline int to_player(struct xdp_md *ctx, const struct datagram *d)
{
	struct connection_key key = { .session = d->session, .connection_id = d->connection_id };
	__u32 *slot = bpf_map_lookup_elem(&connections, &key);
	struct state *player_state = 0;
	struct binding *player;
	int exit;

	if (!slot)
		return PASS_UP;
	player = binding_of(*slot, &player_state);
	if (!player || player->session != d->session || player->connection_id != d->connection_id)
		return PASS_UP;
	if (is_silent(player_state->last_seen_ns, d->now_ns))
		return PASS_UP;
	exit = send(ctx, d, player, player_state, CLIENT, DATA, TO_PLAYER_HEADER_BYTES,
		    d->size - HOST_DATA_HEADER_BYTES);
	if (exit < 0)
		return PASS_UP;
	forwarded(d);
	__sync_fetch_and_add(&player_state->to_player_datagrams, 1);
	__sync_fetch_and_add(&player_state->to_player_bytes, d->size);
	return exit;
}

/* What engine.py's `_decide` does, in its order, as far as this program may decide it. */
static __always_inline int decide(struct xdp_md *ctx, struct datagram *d, const __u8 *payload, const void *end)
{
	struct pair_key key;
	const struct rate *rate;
	struct pair *pair;
	struct binding *sender;
	struct state *state = 0;
	__u32 slot;

	if (d->size < HEADER_BYTES)
		return drop(d, TOO_SHORT);
	if (d->size > MAX_DATAGRAM_BYTES) {
		/* Out of a local stack this may be several datagrams in one, which the sockets take apart. */
		return is_partial(d) ? NOT_PLAIN : drop(d, TOO_LONG);
	}
	if ((void *)payload + HEADER_BYTES > end)
		return XDP_PASS;
	d->user = *(const __u32 *)(payload + USER_OFFSET);
	d->session = *(const __u32 *)(payload + SESSION_OFFSET);
	d->kind = payload[TYPE_OFFSET];
	d->header_bytes = HEADER_BYTES;
	if (d->kind == DATA) {
		if (d->port == SERVER)
			d->header_bytes = HOST_DATA_HEADER_BYTES;
		if (d->size <= d->header_bytes)
			return drop(d, d->size == d->header_bytes ? NO_PAYLOAD : TOO_SHORT);
		if (d->port == SERVER) {
			if ((void *)payload + HOST_DATA_HEADER_BYTES > end)
				return XDP_PASS;
			d->connection_id = *(const __u32 *)(payload + HEADER_BYTES);
		}
	} else if (d->kind != PING) {
		return drop(d, UNKNOWN_TYPE);
	}

	key.user = d->user;
	key.session = d->session;
	pair = bpf_map_lookup_elem(&pairs, &key);
	if (!pair)
		return unknown_pair(d);
	slot = slot_of(d, pair);
	sender = binding_of(slot, &state);
	if (!sender || !is_of_its_user(d, sender))
		return is_bad_source(d) ? drop(d, BAD_SOURCE) : known_pair(d, pair);
	if (!is_from_where_bound(d, sender)) {
		if (is_bad_source(d))
			return drop(d, BAD_SOURCE);
		if ((d->control->flags & PIN_IP) || is_searched(d) || d->now_ns < sender->conflicts_until_ns ||
		    (__s64)(d->now_ns - state->last_seen_ns) >= (__s64)d->control->rebind_after_ns)
			return known_pair(d, pair);
		__sync_fetch_and_add(&state->conflict_datagrams, 1);
		return drop(d, ADDRESS_CONFLICT);
	}
	heard(d, state);
	/* Not atomic: receive-side scaling keeps a user's datagrams on one processor. */
	rate = d->port == CLIENT ? &d->control->rates[CLIENT] : &d->control->rates[SERVER];
	if (!within_rate(rate, &state->dues, d->size, d->now_ns)) {
		__sync_fetch_and_add(&state->limited_datagrams, 1);
		return drop(d, RATE_LIMITED);
	}
	if (d->kind == PING)
		return answer(ctx, d, sender, state, slot);
	return d->port == CLIENT ? to_host(ctx, d, sender, state) : to_player(ctx, d);
}

#endif
