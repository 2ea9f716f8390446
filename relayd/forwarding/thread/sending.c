#define _GNU_SOURCE
#include "sending.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* UDP_SEGMENT: udp(7); the kernel wants the whole under 64 KiB, and no more than 64 segments (UDP_MAX_SEGMENTS). */
enum { MERGED_BYTES = 60000 };

/* What the kernel is told of a message beside its bytes: where it leaves from, and how long its parts are. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))];
};

/* Messages over parts: a message's parts stand side by side. */
struct arrangement {
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
	union control controls[BATCH];
};

static socklen_t address_bytes(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

/* Adds to what a message has; returns how many bytes that then is. */
static size_t add_control(union control *control, size_t bytes, int level, int type, const void *data,
			  size_t data_bytes)
{
	struct cmsghdr *header = (struct cmsghdr *)(control->bytes + bytes);

	header->cmsg_level = level;
	header->cmsg_type = type;
	header->cmsg_len = CMSG_LEN(data_bytes);
	memcpy(CMSG_DATA(header), data, data_bytes);
	return bytes + CMSG_SPACE(data_bytes);
}

static size_t add_local(union control *control, size_t bytes, const struct local *local)
{
	struct in_pktinfo v4 = { 0 };
	struct in6_pktinfo v6;

	if (local->family == AF_INET) {
		memcpy(&v4.ipi_spec_dst, local->address, sizeof(v4.ipi_spec_dst));
		return add_control(control, bytes, IPPROTO_IP, IP_PKTINFO, &v4, sizeof(v4));
	}
	if (local->family == AF_INET6) {
		memcpy(&v6.ipi6_addr, local->address, sizeof(v6.ipi6_addr));
		v6.ipi6_ifindex = local->interface;
		return add_control(control, bytes, IPPROTO_IPV6, IPV6_PKTINFO, &v6, sizeof(v6));
	}
	return bytes;
}

static void set_control(struct msghdr *header, union control *control, size_t bytes)
{
	header->msg_control = bytes ? control : NULL;
	header->msg_controllen = bytes;
}

static bool fits(const struct leaving *first, const struct leaving *one, size_t message_bytes, size_t last_bytes)
{
	/* Segments are as long as the first; only the last may be shorter. */
	return first->to_slot == one->to_slot && memcmp(&first->local, &one->local, sizeof(one->local)) == 0 &&
	       last_bytes == first->part.iov_len && one->part.iov_len <= first->part.iov_len &&
	       message_bytes + one->part.iov_len <= MERGED_BYTES;
}

/* Puts what goes to one peer into one message, in order. Returns how many messages there are. */
static unsigned arrange(struct out *out, struct arrangement *a, bool merge)
{
	unsigned parts_of[BATCH] = { 0 }, first_of[BATCH], next_part[BATCH], messages = 0, parts = 0;
	size_t bytes_of[BATCH], last_bytes[BATCH];

	for (unsigned i = 0; i < out->count; i++) {
		struct leaving *one = &out->leaving[i];
		unsigned m = messages;

		/* The latest message to this peer, so that its datagrams stay in order. */
		if (merge)
			for (m = messages; m > 0 && out->leaving[first_of[m - 1]].to_slot != one->to_slot; m--)
				;
		if (merge && m > 0 && fits(&out->leaving[first_of[m - 1]], one, bytes_of[m - 1], last_bytes[m - 1])) {
			m--;
		} else {
			m = messages++;
			first_of[m] = i;
			bytes_of[m] = 0;
		}
		one->message = m;
		parts_of[m]++;
		bytes_of[m] += one->part.iov_len;
		last_bytes[m] = one->part.iov_len;
	}
	for (unsigned m = 0; m < messages; m++) {
		struct leaving *first = &out->leaving[first_of[m]];
		struct msghdr *header = &a->messages[m].msg_hdr;
		union control *control = &a->controls[m];
		size_t control_bytes = add_local(control, 0, &first->local);

		memset(header, 0, sizeof(*header));
		header->msg_name = &first->to;
		header->msg_namelen = address_bytes(&first->to);
		header->msg_iov = &a->parts[parts];
		header->msg_iovlen = parts_of[m];
		if (parts_of[m] > 1) {
			uint16_t segment_bytes = (uint16_t)first->part.iov_len;

			control_bytes = add_control(control, control_bytes, SOL_UDP, UDP_SEGMENT, &segment_bytes,
						    sizeof(segment_bytes));
		}
		set_control(header, control, control_bytes);
		next_part[m] = parts;
		parts += parts_of[m];
	}
	for (unsigned i = 0; i < out->count; i++)
		a->parts[next_part[out->leaving[i].message]++] = out->leaving[i].part;
	return messages;
}

static enum verdict reason_of(int error)
{
	return error == EAGAIN || error == ENOBUFS ? SEND_QUEUE_FULL : SEND_FAILED;
}

/* What the kernel says of an address, or of an interface, that this host no longer has. */
static bool is_gone(int error)
{
	return error == EINVAL || error == EADDRNOTAVAIL || error == ENETUNREACH || error == ENODEV;
}

static void send_alone(int fd, struct leaving *one)
{
	union control control;
	struct msghdr header = {
		.msg_name = &one->to,
		.msg_namelen = address_bytes(&one->to),
		.msg_iov = &one->part,
		.msg_iovlen = 1,
	};

	set_control(&header, &control, add_local(&control, 0, &one->local));
	if (sendmsg(fd, &header, MSG_DONTWAIT) >= 0)
		return;
	if (one->local.family && is_gone(errno)) {
		set_control(&header, NULL, 0);
		if (sendmsg(fd, &header, MSG_DONTWAIT) >= 0)
			return;
	}
	one->verdict = reason_of(errno);
}

/* A message that was not taken. What was merged is tried one by one: a link without checksum offload, or with a smaller
 * MTU, takes single datagrams only (udp(7)). So is what was to leave from an address that may have gone. */
static void not_taken(int fd, struct out *out, const struct arrangement *a, unsigned message, int error)
{
	bool merged = a->messages[message].msg_hdr.msg_iovlen > 1;

	for (unsigned i = 0; i < out->count; i++) {
		struct leaving *one = &out->leaving[i];

		if (one->message != message)
			continue;
		if (reason_of(error) == SEND_FAILED && (merged || (one->local.family && is_gone(error))))
			send_alone(fd, one);
		else
			one->verdict = reason_of(error);
	}
}

/* Sends all that leaves by one socket; what the kernel does not take is dropped: the next datagram serves a game better
 * than a late one. */
void send_out(int fd, struct out *out, bool merge)
{
	struct arrangement a;
	unsigned messages = arrange(out, &a, merge), done = 0;

	while (done < messages) {
		int sent = sendmmsg(fd, a.messages + done, messages - done, MSG_DONTWAIT);
		int error = errno;

		if (sent > 0) {
			done += (unsigned)sent;
			continue;
		}
		/* This one failed; with EAGAIN there is no room at all, and the others would fail as well. */
		not_taken(fd, out, &a, done++, error);
		while (error == EAGAIN && done < messages)
			not_taken(fd, out, &a, done++, error);
	}
}
