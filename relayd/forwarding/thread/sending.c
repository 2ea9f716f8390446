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

union segment_control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(uint16_t))];
};

/* Messages over parts: a message's parts stand side by side. */
struct arrangement {
	struct mmsghdr messages[BATCH];
	struct iovec parts[BATCH];
	union segment_control segments[BATCH];
};

static socklen_t address_bytes(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

static bool fits(const struct leaving *first, const struct leaving *one, size_t message_bytes, size_t last_bytes)
{
	/* Segments are as long as the first; only the last may be shorter. */
	return first->to_slot == one->to_slot && last_bytes == first->part.iov_len &&
	       one->part.iov_len <= first->part.iov_len && message_bytes + one->part.iov_len <= MERGED_BYTES;
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

		memset(header, 0, sizeof(*header));
		header->msg_name = &first->to;
		header->msg_namelen = address_bytes(&first->to);
		header->msg_iov = &a->parts[parts];
		header->msg_iovlen = parts_of[m];
		if (parts_of[m] > 1) {
			struct cmsghdr *control = &a->segments[m].align;
			uint16_t segment_bytes = (uint16_t)first->part.iov_len;

			control->cmsg_level = SOL_UDP;
			control->cmsg_type = UDP_SEGMENT;
			control->cmsg_len = CMSG_LEN(sizeof(segment_bytes));
			memcpy(CMSG_DATA(control), &segment_bytes, sizeof(segment_bytes));
			header->msg_control = control;
			header->msg_controllen = sizeof(a->segments[m].bytes);
		}
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

static void send_alone(int fd, struct leaving *one)
{
	if (sendto(fd, one->part.iov_base, one->part.iov_len, MSG_DONTWAIT, &one->to.any, address_bytes(&one->to)) < 0)
		one->verdict = reason_of(errno);
}

/* A message that was not taken. What was merged is tried one by one: a link without checksum offload, or with a smaller
 * MTU, takes single datagrams only (udp(7)). */
static void not_taken(int fd, struct out *out, const struct arrangement *a, unsigned message, int error)
{
	bool merged = a->messages[message].msg_hdr.msg_iovlen > 1;

	for (unsigned i = 0; i < out->count; i++) {
		if (out->leaving[i].message != message)
			continue;
		if (merged && reason_of(error) == SEND_FAILED)
			send_alone(fd, &out->leaving[i]);
		else
			out->leaving[i].verdict = reason_of(error);
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
