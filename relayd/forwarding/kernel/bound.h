/* SPDX-License-Identifier: Dual BSD/GPL */
/* Who is bound where. */
#ifndef RELAYD_KERNEL_BOUND_H
#define RELAYD_KERNEL_BOUND_H

#include "datagram.h"

static __always_inline __u32 slot_of(const struct datagram *d, const struct pair *pair)
{
	return d->port == CLIENT ? pair->slots[CLIENT] : pair->slots[SERVER];
}

static __always_inline bool is_of_its_user(const struct datagram *d, const struct binding *sender)
{
	return sender->user == d->user && sender->session == d->session;
}

static __always_inline bool is_from_where_bound(const struct datagram *d, const struct binding *sender)
{
	return sender->peer_port == d->source_port && sender->family == d->family && sender->endpoint == d->endpoint &&
	       same_address(sender->peer, d->source);
}

/* Whether it may be from a user that the sockets serve: not while all of these are known, and it is from none of them. */
static __always_inline bool may_be_bound_by_sockets(const struct datagram *d)
{
	struct place place = { .peer_port = d->source_port, .port = d->port, .endpoint = d->endpoint };

	copy_address(place.peer, d->source);
	return (d->control->flags & BINDINGS_INCOMPLETE) || bpf_map_lookup_elem(&by_sockets, &place);
}

#endif
