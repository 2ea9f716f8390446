/*
 * The forwarding thread under libFuzzer: relayd/forwarding/thread/forwarder.c, flows.c and sending.c as they are, with a kernel
 * of this file's own, which hands out the datagrams that stand in the input and takes or refuses what is sent.
 *
 * After every batch it is checked that each datagram had one outcome and that it was counted so; that what was sent is
 * what a plain look at all flows says, to whom it says, in order; that rates are kept to the datagram; and that nothing
 * overtook what was passed up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int fake_recvmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags, struct timespec *timeout);
static int fake_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
static ssize_t fake_sendmsg(int fd, const struct msghdr *header, int flags);
static int fake_clock_gettime(clockid_t clock, struct timespec *now);

#define recvmmsg fake_recvmmsg
#define sendmmsg fake_sendmmsg
#define sendmsg fake_sendmsg
#define clock_gettime fake_clock_gettime
#define eventfd_write(fd, value) ((void)(fd))
#define setsockopt(fd, level, name, value, size) ((void)(fd), (void)(value), 0)
/* The sockets of the first two endpoints have several addresses. */
#define getsockopt(fd, level, name, value, size) ((void)(size), *(value) = (fd) < 102, 0)
#define epoll_ctl(poll, action, fd, event) ((void)(poll), (void)(fd), (void)(event), 0)

#include "../../relayd/forwarding/thread/flows.c"
#include "../../relayd/forwarding/thread/sending.c"
/* Both files have their own; the names are the same in neither. */
#include "../../relayd/forwarding/thread/forwarder.c"

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

enum { SLOTS = 1024, STRIDE = 128, ENDPOINTS = 4, LONGEST = 65507 };
enum { BATCHES_AT_MOST = 64, SAID_EVERY_SECONDS = 5 };

/* ---- The input: choices, one after another ------------------------------------------------------------------------ */

static const uint8_t *input;
static size_t input_left;

static uint8_t number(void)
{
	if (!input_left)
		return 0;
	input_left--;
	return *input++;
}

static size_t some_bytes(uint8_t *into, size_t count)
{
	size_t taken = count < input_left ? count : input_left;

	memcpy(into, input, taken);
	input += taken;
	input_left -= taken;
	return taken;
}

/* ---- The world ---------------------------------------------------------------------------------------------------- */

static const uint32_t tokens[] = { 0xcafebabe, 0x11223344, 1001, 0xefcdab89, 1002, 102, 103, 0 };
static const uint32_t connection_ids[] = { 1, 2, 3, 0x7fffffff, 0x6015b725, 0x29dd9771, 0, 0xffffffff };
#define OF(list, choice) ((list)[(choice) % (sizeof(list) / sizeof(*(list)))])

static struct forwarder forwarder;
static struct total totals[PORTS][VERDICTS];
static uint8_t all_counts[SLOTS * STRIDE] __attribute__((aligned(64)));
static struct endpoint endpoints[ENDPOINTS] = {
	{ .fd = 100, .port = SERVER },
	{ .fd = 101, .port = CLIENT },
	{ .fd = 102, .port = SERVER },
	{ .fd = 103, .port = CLIENT },
};
#define LOCAL 0x0a000000u	 /* the first of four addresses of this host */
static struct flow known[SLOTS]; /* the same flows, looked at one by one */
static unsigned known_most;
/* By sender: to whom something of it was passed up last, and until what is taken from the ring this waits. */
static struct waits {
	const struct flow *to;
	uint64_t until;
} waits[SLOTS];
/* By sender: how full it is of what it sent lately, in nanoseconds that this takes to leave, and at what time. Of the same
 * second's worth as meter.h has, but kept as a level. */
static struct bucket {
	uint64_t datagrams_ns, bytes_ns;
	uint64_t at_ns;
} buckets[SLOTS];
static uint64_t now_ns;
static uint64_t datagrams_wanted;
/* What was done so far. */
static struct done {
	uint64_t runs, checks, passed_up, by_verdict[VERDICTS];
	time_t said_at;
} done;

static void peer_of(uint8_t choice, union address *address)
{
	memset(address, 0, sizeof(*address));
	if (choice & 1) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = htons(1 + (choice >> 1 & 3));
		address->v6.sin6_scope_id = choice >> 3 & 1;
		address->v6.sin6_addr.s6_addr[15] = 1 + (choice >> 4 & 1);
	} else {
		address->v4.sin_family = AF_INET;
		address->v4.sin_port = htons(1 + (choice >> 1 & 3));
		address->v4.sin_addr.s_addr = htonl(0x0a000001 + (choice >> 3 & 3));
	}
}

/* One of those there are; NULL if there is none. */
static struct flow *any_known(uint8_t choice)
{
	unsigned used = 0;

	for (unsigned slot = 1; slot <= known_most; slot++)
		used += known[slot].used;
	used = used ? 1 + choice % used : 0;
	for (unsigned slot = 1; used && slot <= known_most; slot++)
		if (known[slot].used && !--used)
			return &known[slot];
	return NULL;
}

static struct flow *known_pair(enum port port, uint32_t user, uint32_t session)
{
	for (unsigned slot = 1; slot <= known_most; slot++)
		if (known[slot].used && known[slot].port == port && known[slot].user == user &&
		    known[slot].session == session)
			return &known[slot];
	return NULL;
}

static struct flow *known_host(uint32_t session)
{
	for (unsigned slot = 1; slot <= known_most; slot++)
		if (known[slot].used && known[slot].port == SERVER && known[slot].session == session)
			return &known[slot];
	return NULL;
}

static struct flow *known_player(uint32_t session, uint32_t connection_id)
{
	for (unsigned slot = 1; slot <= known_most; slot++)
		if (known[slot].used && known[slot].port == CLIENT && known[slot].session == session &&
		    known[slot].connection_id == connection_id)
			return &known[slot];
	return NULL;
}

static uint64_t clock_ns(void)
{
	return (uint64_t)(clock_seconds() * 1e9);
}

static uint64_t not_below_zero(uint64_t level, uint64_t less)
{
	return level > less ? level - less : 0;
}

/* Whether a flow's bucket has room for a datagram of that size, which then is in it. */
static bool fits_its_rate(const struct flow *flow, uint32_t size)
{
	struct bucket *bucket = &buckets[flow - known];
	const struct rate *rate = &flow->rate;
	uint64_t since_ns = clock_ns() - bucket->at_ns;
	uint64_t datagrams_ns = not_below_zero(bucket->datagrams_ns, since_ns) + rate->datagram_ns;
	uint64_t bytes_ns = not_below_zero(bucket->bytes_ns, since_ns);

	if (rate->bytes_per_second)
		bytes_ns += size * NS_PER_SECOND / rate->bytes_per_second;
	if (datagrams_ns > NS_PER_SECOND || bytes_ns > NS_PER_SECOND)
		return false;
	*bucket = (struct bucket){ datagrams_ns, bytes_ns, clock_ns() };
	return true;
}

/* Gives a flow rates so low that they are reached; sometimes it comes with what it has used up of them already. */
static void limit(struct flow *flow, unsigned slot, bool datagrams_too, bool bytes_too, bool used_up)
{
	uint64_t used_ns = used_up ? NS_PER_SECOND : 0;

	flow->metered = datagrams_too || bytes_too;
	flow->rate.datagram_ns = datagrams_too ? NS_PER_SECOND / (1 + flow->user % 50) : 0;
	flow->rate.bytes_per_second = bytes_too ? 100 * (1 + flow->session % 50) : 0;
	buckets[slot] = (struct bucket){ datagrams_too ? used_ns : 0, bytes_too ? used_ns : 0, clock_ns() };
	flow->dues.datagrams_ns = buckets[slot].datagrams_ns + clock_ns();
	flow->dues.bytes_ns = buckets[slot].bytes_ns + clock_ns();
}

static void add(unsigned slot, uint8_t where, uint32_t user, uint32_t session, uint32_t connection_id, uint8_t peer)
{
	struct flow flow = { .user = user, .session = session, .endpoint = where % ENDPOINTS };
	union address address;
	bool leads;

	if (!slot || slot >= SLOTS || known[slot].used)
		return;
	flow.port = (uint8_t)endpoints[flow.endpoint].port;
	flow.connection_id = flow.port == CLIENT ? connection_id : 0;
	peer_of(peer, &address);
	peer_from_address(&flow.peer, &address);
	leads = known_pair(flow.port, user, session) ||
		(flow.port == CLIENT ? known_player(session, connection_id) : known_host(session));
	CHECK(flows_leads_elsewhere(&forwarder.flows, &flow) == leads);
	if (leads)
		return;
	/* As module.c does it. */
	flow.passed_up = forwarder.ring_head;
	flow.settled_at = clock_seconds() + SETTLES_SECONDS;
	limit(&flow, slot, where & 128, where & 64, peer & 128);
	memset(&waits[slot], 0, sizeof(*waits));
	CHECK(flows_add(&forwarder.flows, slot, &flow));
	CHECK(flows_has(&forwarder.flows, slot));
	*counts_at(&forwarder, slot) = (struct counts){ .last_seen_seconds = clock_seconds() };
	known[slot] = flow;
	known[slot].used = true;
	known_most = slot > known_most ? slot : known_most;
}

/* Every flow is found, and nothing leads to one that is gone. */
static void all_are_found(void)
{
	for (unsigned slot = 1; slot <= known_most; slot++) {
		const struct flow *flow = &known[slot];
		uint32_t found = map_find(&forwarder.flows.pairs[flow->port], key_of(flow->user, flow->session));
		uint32_t other = flow->port == CLIENT ? map_find(&forwarder.flows.connections,
								 key_of(flow->session, flow->connection_id))
						      : map_find(&forwarder.flows.hosts, flow->session);

		CHECK((found == slot) == flow->used && (!flow->used || other == slot));
	}
}

static void take_out(unsigned slot)
{
	if (!slot || slot >= SLOTS || !known[slot].used)
		return;
	flows_remove(&forwarder.flows, slot);
	CHECK(!flows_has(&forwarder.flows, slot));
	known[slot].used = false;
	all_are_found();
}

/* ---- One batch ---------------------------------------------------------------------------------------------------- */

/* What arrived, and what should come of it if nothing makes it wait. */
struct arrived {
	uint8_t bytes[BUFFER_BYTES];
	uint32_t size;
	struct peer source;
	struct flow *from; /* NULL: never to leave here, whatever else */
	struct flow *to;
	struct flow *above_rate; /* the sender, if this is more than it may send */
	enum verdict verdict;
	uint8_t leaves[MAX_DATAGRAM_BYTES];
	uint32_t leaves_bytes;
	bool passed_up;
	bool spared; /* its receiver is silent and was sent enough */
	bool sent;
};

static struct arrived batch_in[BATCH];
static unsigned batch_count, at_endpoint;
static uint8_t send_behaviour, arrival_clock;

static void put_u32(uint8_t *bytes, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
}

/* A datagram of the input: any bytes, or tokens that may mean something, from anywhere; or those of a flow. */
static void next_datagram(struct arrived *a, union address *source)
{
	uint8_t what = number(), kind = number();
	uint32_t user, session;
	bool at_server = endpoints[at_endpoint].port == SERVER;
	struct flow *flow;

	memset(a, 0, sizeof(*a));
	if (what < 32) {
		peer_of(number(), source);
		a->size = (uint32_t)some_bytes(a->bytes, kind);
		return;
	}
	flow = any_known(number());
	if (what < 208 && flow) {
		user = flow->user;
		session = flow->session;
		address_from_peer(source, &flow->peer);
	} else {
		user = OF(tokens, what);
		session = OF(tokens, what >> 3);
		peer_of(number(), source);
	}
	put_u32(a->bytes + USER_OFFSET, user);
	put_u32(a->bytes + SESSION_OFFSET, session);
	a->bytes[TYPE_OFFSET] = kind & 3 ? DATA : kind & 4 ? PING : kind >> 3;
	a->size = HEADER_BYTES;
	if (a->bytes[TYPE_OFFSET] == PING && kind < 128)
		return;
	if (at_server) {
		struct flow *player = any_known(number());

		put_u32(a->bytes + HEADER_BYTES,
			kind & 8 && player ? player->connection_id : OF(connection_ids, kind >> 4));
		a->size = HOST_DATA_HEADER_BYTES;
	}
	switch (kind >> 6) {
	case 0:
		a->size += (uint32_t)some_bytes(a->bytes + a->size, 1 + (kind >> 4 & 3));
		break;
	case 1:
		a->size += 20; /* all of one length, as what can leave as one */
		break;
	case 2:
		a->size = MAX_DATAGRAM_BYTES - (kind >> 4 & 1);
		break;
	default:
		a->size = kind >> 4 & 1 ? MAX_DATAGRAM_BYTES + 1 : LONGEST;
	}
}

/* What a plain look at all flows says. */
static void expect(struct arrived *a)
{
	enum port port = endpoints[at_endpoint].port;
	uint32_t user, session, header;
	struct flow *from;

	a->from = a->to = a->above_rate = NULL;
	if (a->size < HEADER_BYTES || a->size > MAX_DATAGRAM_BYTES ||
	    (a->bytes[TYPE_OFFSET] != PING && a->bytes[TYPE_OFFSET] != DATA))
		return;
	header = port == CLIENT ? HEADER_BYTES : HOST_DATA_HEADER_BYTES;
	if (a->bytes[TYPE_OFFSET] == DATA && a->size <= header)
		return;
	user = little_u32(a->bytes + USER_OFFSET);
	session = little_u32(a->bytes + SESSION_OFFSET);
	from = known_pair(port, user, session);
	if (!from || from->endpoint != at_endpoint || memcmp(&from->peer, &a->source, sizeof(a->source)) != 0)
		return;
	if (!fits_its_rate(from, a->size)) {
		a->above_rate = from;
		return;
	}
	if (a->bytes[TYPE_OFFSET] == PING) {
		a->from = a->to = from;
		a->verdict = ANSWERED;
		a->leaves[0] = PING;
		a->leaves[1] = STATE_VALID;
		a->leaves_bytes = STATE_BYTES;
		return;
	}
	a->to = port == CLIENT ? known_host(session) : known_player(session, little_u32(a->bytes + HEADER_BYTES));
	if (!a->to)
		return;
	a->from = from;
	a->verdict = FORWARDED;
	a->leaves[0] = DATA;
	a->leaves_bytes = TO_PLAYER_HEADER_BYTES;
	if (port == CLIENT) {
		put_u32(a->leaves + 1, from->connection_id);
		a->leaves_bytes = TO_HOST_HEADER_BYTES;
	}
	memcpy(a->leaves + a->leaves_bytes, a->bytes + header, a->size - header);
	a->leaves_bytes += a->size - header;
}

/* Says which of four addresses was asked, where the socket has several. Returns how much is said by then. */
static size_t say_local(struct msghdr *header, size_t bytes, uint32_t choice)
{
	struct in_pktinfo said = { .ipi_spec_dst.s_addr = htonl(LOCAL + choice % 4) };
	struct cmsghdr *control;

	if (endpoints[at_endpoint].fd >= 102)
		return bytes;
	CHECK(header->msg_controllen >= bytes + CMSG_SPACE(sizeof(said)));
	control = (struct cmsghdr *)((char *)header->msg_control + bytes);
	control->cmsg_level = IPPROTO_IP;
	control->cmsg_type = IP_PKTINFO;
	control->cmsg_len = CMSG_LEN(sizeof(said));
	memcpy(CMSG_DATA(control), &said, sizeof(said));
	return bytes + CMSG_SPACE(sizeof(said));
}

static int fake_recvmmsg(int fd, struct mmsghdr *messages, unsigned room, int flags, struct timespec *timeout)
{
	struct msghdr *first = &messages[0].msg_hdr;

	CHECK(fd == endpoints[at_endpoint].fd && room == BATCH && flags == (MSG_DONTWAIT | MSG_TRUNC) && !timeout);
	for (unsigned i = 0; i < batch_count; i++) {
		union address *name = messages[i].msg_hdr.msg_name;
		struct iovec *part = messages[i].msg_hdr.msg_iov;

		CHECK(messages[i].msg_hdr.msg_namelen == sizeof(*name) && messages[i].msg_hdr.msg_iovlen == 1);
		next_datagram(&batch_in[i], name);
		peer_from_address(&batch_in[i].source, name);
		messages[i].msg_hdr.msg_namelen = address_bytes(name);
		messages[i].msg_len = batch_in[i].size;
		CHECK(part->iov_len >= MAX_DATAGRAM_BYTES + 1 && part->iov_len <= sizeof(batch_in[i].bytes));
		memcpy(part->iov_base, batch_in[i].bytes,
		       batch_in[i].size < part->iov_len ? batch_in[i].size : part->iov_len);
		expect(&batch_in[i]);
		if (!input_left) /* what would follow is all the same */
			batch_count = i + 1;
	}
	for (unsigned i = 0; i < batch_count; i++) {
		if (i == 0 && arrival_clock & 1)
			continue;
		messages[i].msg_hdr.msg_controllen = say_local(&messages[i].msg_hdr, 0, batch_in[i].size);
	}
	if (arrival_clock & 1) {
		struct cmsghdr *control = CMSG_FIRSTHDR(first);
		/* The clock may have been set back since. */
		uint64_t at = now_ns + (arrival_clock & 2 ? 1000000000u : 0) - 1000u * arrival_clock;
		struct timespec stamp = { .tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u) };

		CHECK(first->msg_controllen >= CMSG_SPACE(sizeof(stamp)));
		control->cmsg_level = SOL_SOCKET;
		control->cmsg_type = SCM_TIMESTAMPNS;
		control->cmsg_len = CMSG_LEN(sizeof(stamp));
		memcpy(CMSG_DATA(control), &stamp, sizeof(stamp));
		first->msg_controllen = say_local(first, CMSG_SPACE(sizeof(stamp)), batch_in[0].size);
	}
	return (int)batch_count;
}

/* ---- What is sent -------------------------------------------------------------------------------------------------- */

static struct gone {
	int fd;
	union address to;
	uint8_t bytes[MAX_DATAGRAM_BYTES];
	size_t size;
} gone[BATCH];
static unsigned gone_count;

static void leaves(int fd, const void *to, socklen_t length, const void *bytes, size_t size)
{
	struct gone *one = &gone[gone_count++];

	CHECK(gone_count <= batch_count && size <= sizeof(one->bytes) && length <= sizeof(one->to));
	memset(&one->to, 0, sizeof(one->to));
	memcpy(&one->to, to, length);
	memcpy(one->bytes, bytes, size);
	one->fd = fd;
	one->size = size;
}

/* What is said of where a message leaves from, if it is: an address of this host, at a socket that has several. Returns
 * what follows it. */
static struct cmsghdr *leaves_from(int fd, struct msghdr *header)
{
	struct cmsghdr *control = CMSG_FIRSTHDR(header);
	struct in_pktinfo said;

	if (!control || control->cmsg_level != IPPROTO_IP)
		return control;
	CHECK(control->cmsg_type == IP_PKTINFO && control->cmsg_len == CMSG_LEN(sizeof(said)) && fd < 102);
	memcpy(&said, CMSG_DATA(control), sizeof(said));
	CHECK((ntohl(said.ipi_spec_dst.s_addr) & ~3u) == LOCAL && !said.ipi_ifindex && !said.ipi_addr.s_addr);
	return CMSG_NXTHDR(header, control);
}

static int fake_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	static const int errors[] = { EAGAIN, ENOBUFS, EMSGSIZE, ECONNREFUSED, EINVAL, EIO, ENETUNREACH, EPERM };
	unsigned taken = count;

	CHECK(flags == MSG_DONTWAIT && count > 0 && count <= BATCH);
	if (send_behaviour & 1) {
		uint8_t choice = number();

		taken = choice % (count + 1);
		if (!taken) {
			errno = OF(errors, choice >> 4);
			return -1;
		}
	}
	for (unsigned m = 0; m < taken; m++) {
		struct msghdr *header = &messages[m].msg_hdr;
		size_t segment = header->msg_iov[0].iov_len, whole = 0;

		for (unsigned i = 0; i < header->msg_iovlen; i++) {
			struct iovec *part = &header->msg_iov[i];

			CHECK(part->iov_len <= segment && (part->iov_len == segment || i + 1 == header->msg_iovlen));
			whole += part->iov_len;
			leaves(fd, header->msg_name, header->msg_namelen, part->iov_base, part->iov_len);
		}
		struct cmsghdr *control = leaves_from(fd, header);

		CHECK((header->msg_iovlen > 1) == (control != NULL));
		if (control) {
			uint16_t said;

			memcpy(&said, CMSG_DATA(control), sizeof(said));
			CHECK(control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_SEGMENT);
			CHECK(said == segment && whole < 65536 && forwarder.merge);
		}
	}
	return (int)taken;
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *header, int flags)
{
	static const int errors[] = { EMSGSIZE, EAGAIN, EINVAL, ENODEV };

	CHECK(flags == MSG_DONTWAIT && header->msg_iovlen == 1);
	CHECK(!leaves_from(fd, (struct msghdr *)header));
	if (send_behaviour & 2 && number() & 1) {
		errno = OF(errors, number());
		return -1;
	}
	leaves(fd, header->msg_name, header->msg_namelen, header->msg_iov->iov_base, header->msg_iov->iov_len);
	return (ssize_t)header->msg_iov->iov_len;
}

static int fake_clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	*now = (struct timespec){ .tv_sec = (time_t)(now_ns / 1000000000u), .tv_nsec = (long)(now_ns % 1000000000u) };
	return 0;
}

/* ---- What has to hold --------------------------------------------------------------------------------------------- */

static bool all_settled(void)
{
	for (unsigned slot = 1; slot <= known_most; slot++)
		if (known[slot].used && !settled(&forwarder, flows_at(&forwarder.flows, slot), clock_seconds()))
			return false;
	return true;
}

/* Finds in the ring what was passed up, in the order in which it came. Returns how many of the batch it was. */
static unsigned find_passed_up(uint64_t head_before)
{
	uint64_t at = head_before;

	for (unsigned i = 0; i < batch_count && at < forwarder.ring_head; i++) {
		struct passed_up *place = &forwarder.ring[at % PASSED_UP];
		struct arrived *a = &batch_in[i];
		size_t kept = a->size < sizeof(place->bytes) ? a->size : sizeof(place->bytes);

		if (a->above_rate || place->size != a->size || place->endpoint != at_endpoint ||
		    memcmp(&place->source, &a->source, sizeof(a->source)) != 0 ||
		    memcmp(place->bytes, a->bytes, kept) != 0)
			continue;
		a->passed_up = true;
		at++;
	}
	CHECK(at == forwarder.ring_head);
	return (unsigned)(at - head_before);
}

/* Which of those that did not have to wait are not sent, since their receiver may not be there: by when everybody was heard
 * and what silent ones had been sent before this batch. */
static void find_spared(const struct counts *before, const struct dues *to_silent_before)
{
	static uint64_t heard_ns[SLOTS], sent_ns[SLOTS];

	for (unsigned slot = 1; slot <= known_most; slot++) {
		heard_ns[slot] = (uint64_t)(before[slot].last_seen_seconds * 1e9);
		sent_ns[slot] = not_below_zero(to_silent_before[slot].datagrams_ns, clock_ns());
	}
	for (unsigned i = 0; i < batch_count; i++) {
		struct arrived *a = &batch_in[i];
		unsigned to = a->from ? (unsigned)(a->to - known) : 0;

		if (a->above_rate)
			heard_ns[a->above_rate - known] = clock_ns();
		if (!a->from || a->passed_up)
			continue;
		heard_ns[a->from - known] = clock_ns();
		if (a->verdict != FORWARDED || clock_ns() < heard_ns[to] + SILENT_NS)
			continue;
		a->spared = sent_ns[to] + TO_SILENT_NS > NS_PER_SECOND;
		sent_ns[to] += a->spared ? 0 : TO_SILENT_NS;
	}
}

static bool is_what_leaves(const struct arrived *a, const struct gone *one)
{
	union address address;

	address_from_peer(&address, &a->to->peer);
	return endpoints[a->to->endpoint].fd == one->fd && memcmp(&address, &one->to, sizeof(address)) == 0 &&
	       a->leaves_bytes == one->size && memcmp(a->leaves, one->bytes, one->size) == 0;
}

/* Whether something that goes to the same peer and came later has left. */
static bool left_behind(unsigned i)
{
	for (unsigned later = i + 1; later < batch_count; later++)
		if (batch_in[later].sent && batch_in[later].to == batch_in[i].to)
			return true;
	return false;
}

/* Everything that left is what should, in order. */
static void find_sent(void)
{
	for (unsigned k = 0; k < gone_count; k++) {
		unsigned i = 0;

		while (i < batch_count &&
		       (!batch_in[i].from || batch_in[i].passed_up || batch_in[i].spared || batch_in[i].sent ||
			!is_what_leaves(&batch_in[i], &gone[k]) || left_behind(i)))
			i++;
		CHECK(i < batch_count);
		batch_in[i].sent = true;
	}
}

/* From one peer to another, nothing leaves while something older waits; but none waits for longer than it may. */
static void nothing_overtakes(bool overloaded, uint64_t head_before)
{
	double now = clock_seconds();
	uint64_t head = head_before;

	for (unsigned i = 0; i < batch_count; i++) {
		const struct arrived *a = &batch_in[i];
		struct waits *wait = a->from ? &waits[a->from - known] : NULL;

		head += a->passed_up;
		if (!wait)
			continue;
		if (a->passed_up)
			*wait = (struct waits){ .to = a->to, .until = head };
		else if (wait->to == a->to && !overloaded)
			CHECK(forwarder.ring_tail >= wait->until ||
			      (now >= a->from->settled_at && now >= a->to->settled_at));
	}
}

static uint64_t lost_of(const struct counts *counts)
{
	return counts->send_queue_full + counts->send_failed;
}

static void serve_and_check(void)
{
	static struct counts before[SLOTS];
	static struct dues to_silent_before[SLOTS];
	enum port port = endpoints[at_endpoint].port;
	uint64_t head_before = forwarder.ring_head, sent[VERDICTS] = { 0 }, lost = 0, overloaded, in_all = 0,
		 limited = 0;
	struct total was[VERDICTS];
	bool exact = all_settled();
	unsigned passed_up;

	gone_count = 0;
	memcpy(was, totals[port], sizeof(was));
	for (unsigned slot = 1; slot <= known_most; slot++) {
		before[slot] = *counts_at(&forwarder, slot);
		to_silent_before[slot] = flows_has(&forwarder.flows, slot) ? flows_at(&forwarder.flows, slot)->to_silent
									   : (struct dues){ 0 };
	}
	serve(&forwarder, at_endpoint);
	passed_up = find_passed_up(head_before);
	overloaded = totals[port][OVERLOADED].datagrams - was[OVERLOADED].datagrams;
	if (!overloaded) /* else some of what was to wait is nowhere, and who was heard is not known */
		find_spared(before, to_silent_before);
	find_sent();
	CHECK(!overloaded || forwarder.ring_head - forwarder.ring_tail == PASSED_UP);
	nothing_overtakes(overloaded > 0, head_before);
	for (unsigned i = 0; i < batch_count; i++) {
		struct arrived *a = &batch_in[i];

		CHECK(a->from || a->passed_up || a->above_rate || overloaded);
		CHECK(!exact || !a->from || !a->passed_up);
		sent[a->verdict] += a->sent;
		limited += a->above_rate != NULL || a->spared;
	}
	lost = totals[port][SEND_QUEUE_FULL].datagrams - was[SEND_QUEUE_FULL].datagrams +
	       totals[port][SEND_FAILED].datagrams - was[SEND_FAILED].datagrams;
	for (unsigned verdict = 0; verdict < VERDICTS; verdict++)
		in_all += totals[port][verdict].datagrams - was[verdict].datagrams;
	CHECK(totals[port][FORWARDED].datagrams - was[FORWARDED].datagrams == sent[FORWARDED]);
	CHECK(totals[port][ANSWERED].datagrams - was[ANSWERED].datagrams == sent[ANSWERED]);
	CHECK(totals[port][RATE_LIMITED].datagrams - was[RATE_LIMITED].datagrams == limited ||
	      (overloaded && totals[port][RATE_LIMITED].datagrams - was[RATE_LIMITED].datagrams > limited));
	CHECK(in_all + passed_up == batch_count);
	CHECK(send_behaviour || !lost);
	for (unsigned slot = 1; slot <= known_most; slot++) {
		const struct counts *counts = counts_at(&forwarder, slot);
		uint64_t forwarded = 0, above_rate = 0;

		for (unsigned i = 0; i < batch_count; i++) {
			forwarded += batch_in[i].sent && batch_in[i].verdict == FORWARDED &&
				     (port == CLIENT ? batch_in[i].from : batch_in[i].to) == &known[slot];
			above_rate += batch_in[i].above_rate == &known[slot] ||
				      (batch_in[i].spared && batch_in[i].from == &known[slot]);
		}
		CHECK(counts->rate_limited - before[slot].rate_limited == above_rate ||
		      (overloaded && counts->rate_limited - before[slot].rate_limited > above_rate));
		/* Where something is lost, two that look alike at one address cannot be told apart. */
		CHECK(lost || forwarded == counts->to_host_datagrams - before[slot].to_host_datagrams +
						   counts->to_player_datagrams - before[slot].to_player_datagrams);
		CHECK(lost_of(counts) - lost_of(&before[slot]) <= lost);
	}
	for (unsigned verdict = 0; verdict < VERDICTS; verdict++)
		done.by_verdict[verdict] += totals[port][verdict].datagrams - was[verdict].datagrams;
	done.passed_up += passed_up;
	done.checks++;
}

/* ---- The input, operation by operation ---------------------------------------------------------------------------- */

static void owner_judges(uint64_t count)
{
	uint64_t waiting = forwarder.ring_head - forwarder.ring_tail;

	forwarder.ring_tail += count < waiting ? count : waiting;
	forwarder.owner_woken = false;
}

static void one_operation(void)
{
	uint8_t operation = number(), slot, where, who, count;

	switch (operation & 7) {
	case 0:
		slot = number();
		where = number();
		who = number();
		add(slot, where, OF(tokens, who), OF(tokens, who >> 3), OF(connection_ids, where >> 2), number());
		break;
	case 1:
		if (operation & 128) { /* players by the hundred, so that the maps grow */
			count = number();
			for (unsigned i = 0; i < count; i++)
				add(256 + i + 2 * operation, 1, 5000 + i, OF(tokens, operation >> 3), 5000 + i,
				    (uint8_t)i);
		} else {
			take_out(operation & 64 ? 256 + 2u * number() : number());
		}
		break;
	case 2:
		owner_judges(number());
		break;
	case 3:
		now_ns += (uint64_t)number() * 1000000u;
		break;
	default:
		batch_count = 1 + (operation >> 3) % BATCH;
		batch_count = operation & 4 && operation & 128 ? BATCH : batch_count;
		where = number();
		at_endpoint = where % ENDPOINTS;
		if (where < 128) /* it mostly keeps up */
			owner_judges(PASSED_UP);
		send_behaviour = operation & 2 ? number() : 0;
		arrival_clock = operation & 1 ? number() : 0;
		serve_and_check();
	}
}

static void begin_anew(void)
{
	flows_destroy(&forwarder.flows);
	CHECK(flows_create(&forwarder.flows, SLOTS));
	memset(totals, 0, sizeof(totals));
	memset(all_counts, 0, sizeof(all_counts));
	memset(known, 0, sizeof(known));
	memset(waits, 0, sizeof(waits));
	memset(buckets, 0, sizeof(buckets));
	known_most = 0;
	now_ns = 5000000000u;
	forwarder.ring_head = forwarder.ring_tail = 0;
	forwarder.owner_woken = false;
	forwarder.merge = number() & 1;
}

static uint64_t datagrams_done(void)
{
	uint64_t sum = done.passed_up;

	for (unsigned verdict = 0; verdict < VERDICTS; verdict++)
		sum += done.by_verdict[verdict];
	return sum;
}

/* For fuzz/forwarder.py, which shows it. */
static void say_what_is_done(void)
{
	static const char *const labels[VERDICTS] = VERDICT_LABELS;

	printf("{\"runs\": %lu, \"checks\": %lu, \"outcomes\": {\"passed up\": %lu", done.runs, done.checks,
	       done.passed_up);
	for (unsigned verdict = 0; verdict < VERDICTS; verdict++)
		if (done.by_verdict[verdict])
			printf(", \"%s\": %lu", labels[verdict], done.by_verdict[verdict]);
	printf("}}\n");
	fflush(stdout);
	done.said_at = time(NULL);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	struct memory memory = { totals, all_counts, STRIDE, SLOTS };

	for (int i = 1; i < *count; i++)
		sscanf((*arguments)[i], "--datagrams=%lu", &datagrams_wanted);
	done.said_at = time(NULL);
	atexit(say_what_is_done);
	CHECK(forwarder_create(&forwarder, endpoints, ENDPOINTS, true, &memory) == 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	input = data;
	input_left = size;
	begin_anew();
	for (unsigned i = 0; input_left && i < BATCHES_AT_MOST; i++)
		one_operation();
	done.runs++;
	if (datagrams_wanted && datagrams_done() >= datagrams_wanted) {
		say_what_is_done();
		_exit(0);
	}
	if (time(NULL) - done.said_at >= SAID_EVERY_SECONDS)
		say_what_is_done();
	return 0;
}
