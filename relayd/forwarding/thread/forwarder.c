/*
 * The forwarding thread: datagrams of bound users go from socket to socket here, many for each system call, and never
 * wait for Python. Read it from `forwarder_run`, at the bottom, upwards.
 *
 * It decides exactly what relayd/core/engine.py would for a datagram of a bound user that comes from where the user is
 * bound: DATA to the other side, PING answered. Everything else is passed up to the engine untouched, so that every
 * refusal, every binding and every doubt has one place. The owner alone changes `flows`; what it has not been told is
 * slower, never wrong.
 *
 * Order: a peer must not get a datagram before an older one that is still on its way through the owner. So a flow that
 * was just added waits until all has been judged that was passed up before (`passed_up`).
 */
#define _GNU_SOURCE
#include "forwarder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A buffer's share of memory: not a power of two, so that the buffers of a batch do not contend for one set of the
 * cache. One byte more than the longest is enough to know that a datagram is longer. */
enum { BUFFER_BYTES = 1344 };

const uint64_t delay_bounds_ns[DELAY_BUCKETS] = DELAY_BOUNDS_NS;

/* A datagram that came in. */
struct datagram {
	uint8_t *bytes;
	uint32_t size;
	struct peer source;
	struct local local; /* where it was sent to */
	uint32_t user;
	uint32_t session;
	uint8_t kind;	   /* 0: nothing for this thread to decide */
	uint64_t next_key; /* what its receiver is found by */
	uint32_t from_slot;
	uint32_t to_slot;
	struct flow *from;
	struct flow *to;
};

struct work {
	uint8_t buffers[BATCH][BUFFER_BYTES];
	union address sources[BATCH];
	struct iovec parts[BATCH];
	struct mmsghdr messages[BATCH];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} controls[BATCH]; /* what the kernel says of each: when it came, and where it was sent to */
	bool tells_local;  /* whether there is room for that with each, not only with the first */
	struct datagram batch[BATCH];

	struct out outs[]; /* by endpoint */
};

static uint32_t little_u32(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put_little_u32(uint8_t *bytes, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
}

/* ---- Addresses --------------------------------------------------------------------------------------------------- */

static void peer_from_address(struct peer *peer, const union address *address)
{
	memset(peer, 0, sizeof(*peer));
	peer->family = address->any.sa_family;
	if (peer->family == AF_INET6) {
		peer->port = address->v6.sin6_port;
		peer->scope = address->v6.sin6_scope_id;
		memcpy(peer->address, &address->v6.sin6_addr, sizeof(address->v6.sin6_addr));
	} else {
		peer->port = address->v4.sin_port;
		memcpy(peer->address, &address->v4.sin_addr, sizeof(address->v4.sin_addr));
	}
}

static socklen_t address_from_peer(union address *address, const struct peer *peer)
{
	memset(address, 0, sizeof(*address));
	if (peer->family == AF_INET6) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = peer->port;
		address->v6.sin6_scope_id = peer->scope;
		memcpy(&address->v6.sin6_addr, peer->address, sizeof(address->v6.sin6_addr));
		return sizeof(address->v6);
	}
	address->v4.sin_family = AF_INET;
	address->v4.sin_port = peer->port;
	memcpy(&address->v4.sin_addr, peer->address, sizeof(address->v4.sin_addr));
	return sizeof(address->v4);
}

/* ---- Counting, under the lock ------------------------------------------------------------------------------------ */

static void count(struct forwarder *f, enum port port, enum verdict verdict, uint32_t size)
{
	f->memory.totals[port][verdict].datagrams++;
	f->memory.totals[port][verdict].bytes += size;
}

/* Only once it is known whether the kernel took it: the owner takes counts at any time, and what it has taken cannot be
 * corrected. */
static void account(struct forwarder *f, enum port port, const struct leaving *one)
{
	struct counts *player;

	count(f, port, one->verdict, one->arrived_bytes);
	/* What is counted in the slot of a flow that was removed meanwhile is another's. */
	if (!one->player_slot || flows_at(&f->flows, one->player_slot)->generation != one->player_generation)
		return;
	player = counts_at(f, one->player_slot);
	if (one->verdict == SEND_QUEUE_FULL) {
		player->send_queue_full++;
	} else if (one->verdict == SEND_FAILED) {
		player->send_failed++;
	} else if (port == CLIENT) {
		player->to_host_datagrams++;
		player->to_host_bytes += one->arrived_bytes;
	} else {
		player->to_player_datagrams++;
		player->to_player_bytes += one->arrived_bytes;
	}
}

/* ---- Decisions, under the lock ----------------------------------------------------------------------------------- */

static bool settled(const struct forwarder *f, const struct flow *flow, double now)
{
	return flow->passed_up <= f->ring_tail || now >= flow->settled_at;
}

/* An unsettled flow waits for this datagram too. A settled one does not: its other datagrams must not wait for it. */
static void wait_longer(const struct forwarder *f, struct flow *flow, double now)
{
	if (!settled(f, flow, now))
		flow->passed_up = f->ring_head;
}

static void pass_up(struct forwarder *f, unsigned number, const struct datagram *d)
{
	struct passed_up *place = &f->ring[f->ring_head % PASSED_UP];
	uint32_t kept = d->size < sizeof(place->bytes) ? d->size : sizeof(place->bytes);

	if (f->ring_head - f->ring_tail == PASSED_UP) {
		count(f, f->endpoints[number].port, OVERLOADED, d->size);
		return;
	}
	place->source = d->source;
	place->local = d->local;
	place->endpoint = number;
	place->size = d->size;
	memcpy(place->bytes, d->bytes, kept);
	f->ring_head++;
}

static struct leaving *leave(struct forwarder *f, enum verdict verdict, const struct flow *to, uint32_t to_slot,
			     const struct datagram *d, uint8_t *start, uint32_t bytes)
{
	struct out *out = &f->work->outs[to->endpoint];
	struct leaving *one = &out->leaving[out->count++];

	address_from_peer(&one->to, &to->peer);
	one->local = f->endpoints[to->endpoint].tells_local ? to->local : (struct local){ 0 };
	one->part = (struct iovec){ .iov_base = start, .iov_len = bytes };
	one->to_slot = to_slot;
	one->player_slot = 0;
	one->arrived_bytes = d->size;
	one->verdict = verdict;
	return one;
}

static void answer(struct forwarder *f, const struct datagram *d, double now)
{
	pings_note(flows_pings(&f->flows, d->from_slot), (uint64_t)(now * 1e9));
	d->bytes[0] = PING;
	d->bytes[1] = STATE_VALID;
	leave(f, ANSWERED, d->from, d->from_slot, d, d->bytes, STATE_BYTES);
}

static void to_host(struct forwarder *f, const struct datagram *d)
{
	const uint32_t gone = HEADER_BYTES - TO_HOST_HEADER_BYTES;
	uint8_t *start = d->bytes + gone;
	struct leaving *one = leave(f, FORWARDED, d->to, d->to_slot, d, start, d->size - gone);

	start[0] = DATA;
	put_little_u32(start + 1, d->from->connection_id);
	one->player_slot = d->from_slot;
	one->player_generation = d->from->generation;
}

static void to_player(struct forwarder *f, const struct datagram *d)
{
	const uint32_t gone = HOST_DATA_HEADER_BYTES - TO_PLAYER_HEADER_BYTES;
	uint8_t *start = d->bytes + gone;
	struct leaving *one = leave(f, FORWARDED, d->to, d->to_slot, d, start, d->size - gone);

	start[0] = DATA;
	one->player_slot = d->to_slot;
	one->player_generation = d->to->generation;
}

/* Above its rate, a flow's datagrams cost nobody more than this. The engine charges what is passed up once more, by the
 * same rate. */
static bool over_rate(struct forwarder *f, enum port port, const struct datagram *d, double now)
{
	struct counts *counts = counts_at(f, d->from_slot);

	if (!d->from->metered || within_rate(&d->from->rate, &d->from->dues, d->size, (uint64_t)(now * 1e9)))
		return false;
	counts->last_seen_seconds = now;
	counts->rate_limited++;
	count(f, port, RATE_LIMITED, d->size);
	return true;
}

/* The kernel program may hear it, and the owner knows: asked in time, it says so before the receiver counts as silent. */
static void ask_about(struct forwarder *f, uint32_t slot, struct flow *flow, double now)
{
	if (now < flow->ask_at || f->asked_count == ASKED)
		return;
	flow->ask_at = now + ASKS_AGAIN_SECONDS;
	f->asked[f->asked_count++] = slot;
}

/* Above what a silent receiver is sent, it costs the sender. */
static bool spared(struct forwarder *f, enum port port, const struct datagram *d, double now)
{
	const struct rate rate = { .datagram_ns = TO_SILENT_NS };
	uint64_t now_ns = (uint64_t)(now * 1e9);
	uint64_t heard_ns = (uint64_t)(counts_at(f, d->to_slot)->last_seen_seconds * 1e9);

	if (!is_silent(heard_ns, now_ns + SILENT_NS / 2))
		return false;
	ask_about(f, d->to_slot, d->to, now);
	if (!is_silent(heard_ns, now_ns) || within_rate(&rate, &d->to->to_silent, d->size, now_ns))
		return false;
	counts_at(f, d->from_slot)->rate_limited++;
	count(f, port, RATE_LIMITED, d->size);
	return true;
}

static void note_local(struct flow *flow, const struct local *local)
{
	if (local->family && memcmp(&flow->local, local, sizeof(*local)) != 0)
		flow->local = *local;
}

static void act(struct forwarder *f, unsigned number, struct datagram *d, double now)
{
	enum port port = f->endpoints[number].port;

	if (d->from)
		note_local(d->from, &d->local);
	if (d->from && over_rate(f, port, d, now))
		return;
	if (!d->from || (d->kind == DATA && !d->to)) {
		pass_up(f, number, d);
		return;
	}
	if (!settled(f, d->from, now) || (d->to && !settled(f, d->to, now))) {
		pass_up(f, number, d);
		/* What comes next of this sender, or for this receiver, must not overtake it. */
		wait_longer(f, d->from, now);
		if (d->to)
			wait_longer(f, d->to, now);
		return;
	}
	counts_at(f, d->from_slot)->last_seen_seconds = now;
	if (d->to && spared(f, port, d, now))
		return;
	if (d->kind == PING)
		answer(f, d, now);
	else if (port == CLIENT)
		to_host(f, d);
	else
		to_player(f, d);
}

static void read_header(struct datagram *d, enum port port)
{
	uint32_t header_bytes = port == CLIENT ? HEADER_BYTES : HOST_DATA_HEADER_BYTES;
	uint8_t kind;

	d->kind = 0;
	d->from = d->to = NULL;
	if (d->size < HEADER_BYTES || d->size > MAX_DATAGRAM_BYTES)
		return;
	kind = d->bytes[TYPE_OFFSET];
	if (kind != PING && (kind != DATA || d->size <= header_bytes))
		return;
	d->user = little_u32(d->bytes + USER_OFFSET);
	d->session = little_u32(d->bytes + SESSION_OFFSET);
	d->kind = kind;
	if (port == CLIENT)
		d->next_key = d->session;
	else if (kind == DATA)
		d->next_key = key_of(d->session, little_u32(d->bytes + HEADER_BYTES));
}

static bool comes_from_where_it_is_bound(const struct datagram *d, unsigned number)
{
	return d->from->endpoint == number && memcmp(&d->from->peer, &d->source, sizeof(d->source)) == 0;
}

static struct flow *prefetched(const struct forwarder *f, uint32_t slot)
{
	struct flow *flow = flows_at(&f->flows, slot);

	__builtin_prefetch(flow);
	__builtin_prefetch(counts_at(f, slot), 1);
	return flow;
}

/* Decides on a whole batch, a step at a time for all of it: while one datagram's entry comes from memory, the others'
 * are asked for, which keeps the cost of a datagram the same with many sessions as with few. */
static void decide(struct forwarder *f, unsigned number, unsigned count, double now)
{
	const struct endpoint *at = &f->endpoints[number];
	const struct map *pairs = &f->flows.pairs[at->port];
	const struct map *receivers = at->port == CLIENT ? &f->flows.hosts : &f->flows.connections;
	struct datagram *batch = f->work->batch, *end = batch + count, *d;

	for (d = batch; d < end; d++) {
		read_header(d, at->port);
		if (d->kind)
			map_prefetch(pairs, key_of(d->user, d->session));
		if (d->kind == DATA)
			map_prefetch(receivers, d->next_key);
	}
	for (d = batch; d < end; d++) {
		d->from_slot = d->kind ? map_find(pairs, key_of(d->user, d->session)) : 0;
		d->to_slot = d->kind == DATA ? map_find(receivers, d->next_key) : 0;
		if (d->from_slot) {
			d->from = prefetched(f, d->from_slot);
			__builtin_prefetch(&d->from->rate, 1);
		}
		if (d->to_slot) {
			d->to = prefetched(f, d->to_slot);
			if (at->tells_local)
				__builtin_prefetch(&d->to->local);
		}
	}
	for (d = batch; d < end; d++) {
		if (d->from && !comes_from_where_it_is_bound(d, number))
			d->from = NULL;
		act(f, number, d, now);
	}
}

/* ---- In ---------------------------------------------------------------------------------------------------------- */

/* Which address a datagram was sent to, if the kernel says so. The interface only counts where the address says nothing
 * without it: any other may be reached by another one tomorrow. */
static void read_local(struct local *local, struct msghdr *header)
{
	struct in6_pktinfo v6;
	struct in_pktinfo v4;

	memset(local, 0, sizeof(*local));
	for (struct cmsghdr *one = CMSG_FIRSTHDR(header); one; one = CMSG_NXTHDR(header, one)) {
		if (one->cmsg_level == IPPROTO_IP && one->cmsg_type == IP_PKTINFO) {
			memcpy(&v4, CMSG_DATA(one), sizeof(v4));
			/* None with what came in before the socket was to say it. */
			local->family = v4.ipi_spec_dst.s_addr ? AF_INET : 0;
			memcpy(local->address, &v4.ipi_spec_dst, sizeof(v4.ipi_spec_dst));
		} else if (one->cmsg_level == IPPROTO_IPV6 && one->cmsg_type == IPV6_PKTINFO) {
			memcpy(&v6, CMSG_DATA(one), sizeof(v6));
			local->family = AF_INET6;
			local->interface = IN6_IS_ADDR_LINKLOCAL(&v6.ipi6_addr) ? v6.ipi6_ifindex : 0;
			memcpy(local->address, &v6.ipi6_addr, sizeof(v6.ipi6_addr));
		}
	}
}

/* When the first of a batch arrived at the socket, by the kernel's clock; 0 if it did not say. */
static uint64_t arrived_ns(struct msghdr *header)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(header);
	struct timespec at;

	if (!control || control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_TIMESTAMPNS)
		return 0;
	memcpy(&at, CMSG_DATA(control), sizeof(at));
	return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void note_delay(struct forwarder *f, uint64_t arrived)
{
	uint64_t now_ns = clock_real_ns(), delay_ns;
	unsigned bucket = 0;

	if (now_ns < arrived) /* the clock was set back meanwhile */
		return;
	delay_ns = now_ns - arrived;
	while (bucket < DELAY_BUCKETS && delay_ns > delay_bounds_ns[bucket])
		bucket++;
	f->delays.counts[bucket]++;
	f->delays.sum_ns += delay_ns;
}

/* Room for what the kernel says of a message. A time with each would cost as much again as with the first, which waited
 * longest: it is only told where it cannot be told apart from the address. */
static void make_room(struct work *w, unsigned message)
{
	bool room = message == 0 || w->tells_local;

	w->messages[message].msg_hdr.msg_control = room ? &w->controls[message] : NULL;
	w->messages[message].msg_hdr.msg_controllen = room ? sizeof(w->controls[message]) : 0;
}

static void prepare_to_receive(struct work *w)
{
	for (unsigned i = 0; i < BATCH; i++) {
		w->parts[i] = (struct iovec){ .iov_base = w->buffers[i], .iov_len = BUFFER_BYTES };
		w->messages[i].msg_hdr = (struct msghdr){
			.msg_name = &w->sources[i],
			.msg_namelen = sizeof(w->sources[i]),
			.msg_iov = &w->parts[i],
			.msg_iovlen = 1,
		};
		w->batch[i].bytes = w->buffers[i];
		make_room(w, i);
	}
}

/* Takes one batch in at a socket and sees it through. */
static void serve(struct forwarder *f, unsigned number)
{
	struct work *w = f->work;
	uint64_t arrived;
	bool wake, left = false;
	int received;

	if (w->tells_local != f->endpoints[number].tells_local) {
		w->tells_local = f->endpoints[number].tells_local;
		for (unsigned i = 0; i < BATCH; i++)
			make_room(w, i);
	}
	received = recvmmsg(f->endpoints[number].fd, w->messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
	if (received <= 0)
		return;
	arrived = arrived_ns(&w->messages[0].msg_hdr);
	for (int i = 0; i < received; i++) {
		w->batch[i].size = w->messages[i].msg_len;
		peer_from_address(&w->batch[i].source, &w->sources[i]);
		w->messages[i].msg_hdr.msg_namelen = sizeof(w->sources[i]);
		read_local(&w->batch[i].local, &w->messages[i].msg_hdr);
		make_room(w, (unsigned)i);
	}

	pthread_mutex_lock(&f->lock);
	decide(f, number, (unsigned)received, clock_seconds());
	wake = (f->ring_head != f->ring_tail || f->asked_count) && !f->owner_woken;
	f->owner_woken |= wake;
	pthread_mutex_unlock(&f->lock);
	if (wake)
		eventfd_write(f->wake_owner, 1);

	for (unsigned i = 0; i < f->endpoint_count; i++) {
		if (!w->outs[i].count)
			continue;
		send_out(f->endpoints[i].fd, &w->outs[i], f->merge);
		left = true;
	}
	if (!left)
		return;

	pthread_mutex_lock(&f->lock);
	if (arrived)
		note_delay(f, arrived);
	for (unsigned i = 0; i < f->endpoint_count; i++) {
		for (unsigned k = 0; k < w->outs[i].count; k++)
			account(f, f->endpoints[number].port, &w->outs[i].leaving[k]);
		w->outs[i].count = 0;
	}
	pthread_mutex_unlock(&f->lock);
}

void *forwarder_run(void *forwarder)
{
	struct forwarder *f = forwarder;
	struct epoll_event ready[16];

	for (;;) {
		int count = epoll_wait(f->poll, ready, sizeof(ready) / sizeof(*ready), -1);

		for (int i = 0; i < count; i++) {
			if (ready[i].data.u32 == f->endpoint_count)
				return NULL;
			serve(f, ready[i].data.u32);
		}
	}
}

/* ---- Beginning and end ------------------------------------------------------------------------------------------- */

static int watch(int poll, int fd, uint32_t number)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = number };

	return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

/* Whether a socket says which address was asked: relayd/forwarding/asked.py has had it do so where it has several. */
static bool tells_local(int fd)
{
	int v4 = 0, v6 = 0;
	socklen_t size = sizeof(v4);

	if (getsockopt(fd, IPPROTO_IP, IP_PKTINFO, &v4, &size) < 0)
		v4 = 0;
	size = sizeof(v6);
	if (getsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &v6, &size) < 0)
		v6 = 0;
	return v4 || v6;
}

static int open_all(struct forwarder *f)
{
	static const int on = 1;

	f->poll = epoll_create1(EPOLL_CLOEXEC);
	f->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->wake_owner = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->poll < 0 || f->stop < 0 || f->wake_owner < 0)
		return errno;
	for (unsigned i = 0; i < f->endpoint_count; i++) {
		if (setsockopt(f->endpoints[i].fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) < 0)
			return errno;
		f->endpoints[i].tells_local = tells_local(f->endpoints[i].fd);
		if (watch(f->poll, f->endpoints[i].fd, i) < 0)
			return errno;
	}
	return watch(f->poll, f->stop, f->endpoint_count) < 0 ? errno : 0;
}

int forwarder_create(struct forwarder *f, const struct endpoint *endpoints, unsigned count, bool merge,
		     const struct memory *memory)
{
	int error;

	memset(f, 0, sizeof(*f));
	f->poll = f->stop = f->wake_owner = -1;
	f->merge = merge;
	f->memory = *memory;
	f->endpoint_count = count;
	f->endpoints = malloc(count * sizeof(*endpoints));
	f->work = calloc(1, sizeof(*f->work) + count * sizeof(struct out));
	f->ring = malloc(PASSED_UP * sizeof(*f->ring));
	pthread_mutex_init(&f->lock, NULL);
	if (!f->endpoints || !f->work || !f->ring || !flows_create(&f->flows, memory->slots)) {
		forwarder_destroy(f);
		return ENOMEM;
	}
	memcpy(f->endpoints, endpoints, count * sizeof(*endpoints));
	prepare_to_receive(f->work);
	error = open_all(f);
	if (error)
		forwarder_destroy(f);
	return error;
}

void forwarder_destroy(struct forwarder *f)
{
	int fds[] = { f->poll, f->stop, f->wake_owner };

	for (unsigned i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	f->poll = f->stop = f->wake_owner = -1;
	flows_destroy(&f->flows);
	free(f->endpoints);
	free(f->work);
	free(f->ring);
	f->endpoints = NULL;
	f->work = NULL;
	f->ring = NULL;
	pthread_mutex_destroy(&f->lock);
}
