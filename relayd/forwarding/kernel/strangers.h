/* SPDX-License-Identifier: Dual BSD/GPL */
/* Senders that are not bound here: bad sources, unknown tokens, guesses, right tokens from elsewhere. */
#ifndef RELAYD_KERNEL_STRANGERS_H
#define RELAYD_KERNEL_STRANGERS_H

#include "bound.h"
#include "datagram.h"
#include "pass_up.h"

static __always_inline bool is_port(const struct datagram *d, const __be16 *ports)
{
	return d->source_port == ports[CLIENT] || d->source_port == ports[SERVER];
}

static __always_inline bool is_denied(const struct datagram *d)
{
	struct network_key source = { .prefix_bits = 32 + 128, .family = d->family };

	copy_address(source.address, d->source);
	return bpf_map_lookup_elem(&denied, &source) != 0;
}

/* What `is_bad` of relayd/core/bad_sources.py says. */
static __always_inline bool is_bad_source(const struct datagram *d)
{
	__u32 first = bpf_ntohl(d->family == AF_INET ? d->source[3] : d->source[0]) >> 24;
	struct address source;

	if (!d->source_port)
		return true;
	if (d->family == AF_INET6 && (first == 0xff || !(d->source[0] | d->source[1] | d->source[2] | d->source[3])))
		return true;
	if (d->family == AF_INET && (!first || first >= 224))
		return true;
	if (is_port(d, d->control->ports) || is_port(d, d->control->public_ports)) {
		copy_address(source.words, d->source);
		if (d->family == AF_INET && first == 127)
			source.words[3] = bpf_htonl(0x7f000001);
		if (bpf_map_lookup_elem(&addresses, &source))
			return true;
	}
	return is_denied(d);
}

/* Takes one from a bucket that fills evenly, with a burst of one second's worth. Where two processors ask for the same
 * one at the same moment, the loser is refused: never more than the rate. */
static __always_inline bool take(__u64 *due_ns, __u64 interval_ns, __u64 now_ns)
{
	__u64 before = *(volatile __u64 *)due_ns;
	__u64 after = (before > now_ns ? before : now_ns) + interval_ns;

	if (after > now_ns + NS_PER_SECOND)
		return false;
	return __sync_val_compare_and_swap(due_ns, before, after) == before;
}

/* A host with one IPv6 address can use its whole /64 (RFC 4291, 2.5.4). */
static __always_inline struct address network_of_source(const struct datagram *d)
{
	struct address source = {};

	source.words[0] = d->source[0];
	source.words[1] = d->source[1];
	if (d->family == AF_INET) {
		source.words[2] = d->source[2];
		source.words[3] = d->source[3];
	}
	return source;
}

/* Whether all together of that kind leave room for one more. */
static __always_inline bool take_of_all(const struct datagram *d, enum passed_up kind)
{
	__u32 key = kind;
	__u64 *due_ns = bpf_map_lookup_elem(&passed_up_dues, &key);

	return due_ns && take(due_ns, d->control->total_intervals_ns[kind], d->now_ns);
}

static __always_inline bool may_ask(const struct datagram *d)
{
	struct address source = network_of_source(d);
	__u64 *of_source = bpf_map_lookup_elem(&unknown_sources, &source);
	__u64 due_ns;

	if (of_source)
		return take(of_source, d->control->source_interval_ns, d->now_ns) && take_of_all(d, PASSED_UP_UNKNOWN);
	/* All together first: a flood from invented addresses must not push the real ones out of the map. */
	if (!take_of_all(d, PASSED_UP_UNKNOWN))
		return false;
	due_ns = d->now_ns + d->control->source_interval_ns;
	bpf_map_update_elem(&unknown_sources, &source, &due_ns, BPF_ANY);
	return d->control->source_interval_ns <= NS_PER_SECOND;
}

static __always_inline bool too_many(__u64 due_ns, __u64 now_ns)
{
	return due_ns > now_ns + NS_PER_SECOND;
}

/* Counts also what is above the rate, up to a second's worth of it. */
static __always_inline __u64 later(__u64 due_ns, __u64 interval_ns, __u64 now_ns)
{
	__u64 after = (due_ns > now_ns ? due_ns : now_ns) + interval_ns;
	__u64 latest = now_ns + 2 * NS_PER_SECOND;

	return after < latest ? after : latest;
}

static __always_inline bool was_revoked(const struct datagram *d)
{
	struct pair_key pair = { .user = d->user, .session = d->session };
	const __u64 *forgotten_ns = bpf_map_lookup_elem(&revoked, &pair);

	return forgotten_ns && d->now_ns < *forgotten_ns;
}

static __always_inline bool hears_again(void *heard, const struct tried_key *guess, __u64 now_ns)
{
	__u64 *heard_ns = bpf_map_lookup_elem(heard, guess);

	if (!heard_ns || now_ns >= *heard_ns + TRIED_NS)
		return false;
	*heard_ns = now_ns;
	return true;
}

/* What `note` of relayd/core/guesses.py does. User space, which lets users in, looks here whether it was a lucky guess:
 * without this it would only know of the guesses that are passed up to it. */
static __always_inline void note_guess(const struct datagram *d, struct search *search)
{
	struct address source = network_of_source(d);
	struct tried_key guess = { .user = d->user, .session = d->session };
	__u64 *of_source;
	__u64 before = 0, after;
	bool above;

	copy_address(guess.network, source.words);
	if (hears_again(&tried, &guess, d->now_ns))
		return;
	of_source = bpf_map_lookup_elem(&guess_sources, &source);
	if (of_source)
		before = *of_source;
	above = too_many(before, d->now_ns);
	if ((above || too_many(search->due_ns, d->now_ns)) && hears_again(&tried_above, &guess, d->now_ns))
		return;
	if (of_source)
		*of_source = later(before, d->control->source_guess_interval_ns, d->now_ns);
	if (!above) {
		before = search->due_ns;
		search->due_ns = later(before, d->control->guess_interval_ns, d->now_ns);
		above = too_many(before, d->now_ns);
	}
	if (above) {
		bpf_map_update_elem(&tried_above, &guess, &d->now_ns, BPF_ANY);
		return;
	}
	if (!of_source) {
		after = d->now_ns + d->control->source_guess_interval_ns;
		bpf_map_update_elem(&guess_sources, &source, &after, BPF_ANY);
	}
	bpf_map_update_elem(&tried, &guess, &d->now_ns, BPF_ANY);
}

/* Whether a right token from there may be a lucky guess: then user space decides, which knows more. */
static __always_inline bool is_searched(const struct datagram *d)
{
	struct address source = network_of_source(d);
	__u32 token = d->session;
	const struct search *in_session = bpf_map_lookup_elem(&guesses, &token);
	const __u64 *of_source = bpf_map_lookup_elem(&guess_sources, &source);

	return (in_session && too_many(in_session->due_ns, d->now_ns)) ||
	       (of_source && too_many(*of_source, d->now_ns));
}

static __noinline int unknown_pair(const struct datagram *d)
{
	struct search *search;
	bool may_be_known;
	__u64 *forgotten_ns;
	__u32 token;

	if (!d)
		return XDP_PASS;
	if (is_bad_source(d))
		return drop(d, BAD_SOURCE);
	may_be_known = d->control->flags & PAIRS_INCOMPLETE;
	if (may_be_known && may_be_bound_by_sockets(d))
		return PASS_UP;
	token = d->session;
	search = bpf_map_lookup_elem(&guesses, &token);
	if (search && was_revoked(d))
		search = 0;
	if (search)
		note_guess(d, search);
	if (may_ask(d))
		return PASS_UP;
	if (search)
		__sync_fetch_and_add(&search->dropped_datagrams, 1);
	if (may_be_known)
		return drop(d, OVERLOADED);
	forgotten_ns = bpf_map_lookup_elem(&ended, &token);
	return drop(d, forgotten_ns && d->now_ns < *forgotten_ns ? SESSION_ENDED : UNKNOWN_PAIR);
}

/*
 * Right tokens from where this program knows nobody to be bound. What is known is bounded apart from what is not, so that
 * no flood of junk keeps players out, and each pair for itself, so that none keeps the others out.
 */
static __noinline int known_pair(const struct datagram *d, struct pair *pair)
{
	if (!d || !pair)
		return XDP_PASS;
	if (may_be_bound_by_sockets(d))
		return PASS_UP;
	if (take(&pair->due_ns, d->control->pair_interval_ns, d->now_ns) && take_of_all(d, PASSED_UP_KNOWN))
		return PASS_UP;
	return drop(d, OVERLOADED);
}

#endif
