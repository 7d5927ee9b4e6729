/*
 * A backing store named "longhorn" for tgtd, as a module that tgtd loads from /usr/lib/tgt/backing-store: the peer that
 * stands in for Longhorn's own tgtd in the machine. It turns SCSI commands into frames on a volume's unix socket.
 *
 *   READ, WRITE              one frame each, answered in any order
 *   UNMAP                    one frame for each range
 *   SYNCHRONIZE CACHE        success, nothing is sent: the protocol has no flush
 *   EXCHANGE MEDIUM (0xa6)   connects to the same path anew and lets go of the old connection; commands wait meanwhile
 *   --params bsopts=size=N   the new size
 *
 * The options of a unit are "size=BYTES;request_timeout=SECONDS". Built against the headers of tgt's sources.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "list.h"
#include "util.h"
#include "tgtd.h"
#include "scsi.h"
#include "spc.h"
#include "bs_thread.h"

#define FRAME_MAGIC 0x1b01
/* What is under way at once: one for each of tgtd's threads, and a range of an UNMAP is one of them. */
#define SLOTS 64
#define DEFAULT_TIMEOUT_S 15
#define CONNECT_ATTEMPTS 5
#define CONNECT_PAUSE_S 5

enum frame_type { FRAME_READ, FRAME_WRITE, FRAME_RESPONSE, FRAME_ERROR, FRAME_EOF, FRAME_CLOSE, FRAME_PING,
	FRAME_UNMAP, FRAME_NO_SPACE };

/* All numbers are little-endian, and so is the machine. */
struct frame {
	uint16_t magic;
	uint32_t seq;
	uint32_t type;
	int64_t offset;
	uint32_t size;
	uint32_t bytes;
} __attribute__((packed));

struct request {
	int used, done, result;
	uint32_t seq;
	char *buffer;		/* of a read */
	uint32_t length;
	pthread_cond_t answered;
};

/* A connection and the thread that reads from it. */
struct link {
	int fd, broken;
	uint32_t next_seq;
	time_t progress;	/* of the last answer */
	pthread_t reader;
	pthread_mutex_t lock;	/* of all but sending */
	pthread_mutex_t sending;
	pthread_cond_t freed;
	struct request requests[SLOTS];
};

struct volume {
	struct bs_thread_info threads;	/* first: BS_THREAD_I() */
	uint64_t size;
	unsigned int timeout_s;
	struct link *link;
	pthread_rwlock_t medium;	/* held for writing while the link is exchanged */
};

static struct volume *volume_of(struct scsi_lu *lu)
{
	return (struct volume *) BS_THREAD_I(lu);
}

static int receive(int fd, void *buffer, size_t length)
{
	char *at = buffer;

	while (length > 0) {
		ssize_t count = recv(fd, at, length, 0);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return -1;
		at += count;
		length -= count;
	}
	return 0;
}

static int send_all(int fd, const void *buffer, size_t length)
{
	const char *at = buffer;

	while (length > 0) {
		ssize_t count = send(fd, at, length, MSG_NOSIGNAL);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			return -1;
		at += count;
		length -= count;
	}
	return 0;
}

static int discard(int fd, size_t length)
{
	char waste[4096];

	while (length > 0) {
		size_t part = length < sizeof(waste) ? length : sizeof(waste);
		if (receive(fd, waste, part))
			return -1;
		length -= part;
	}
	return 0;
}

static struct request *find(struct link *link, uint32_t seq)
{
	for (int i = 0; i < SLOTS; i++)
		if (link->requests[i].used && link->requests[i].seq == seq)
			return &link->requests[i];
	return NULL;
}

/* Takes an answer's data. The request stays where it is: its owner cannot give up while the lock is held. */
static int take(struct link *link, const struct frame *frame)
{
	struct request *request = find(link, frame->seq);
	uint32_t wanted = 0;
	int ret = 0;

	if (request && request->buffer && (frame->type == FRAME_RESPONSE || frame->type == FRAME_EOF))
		wanted = frame->bytes < request->length ? frame->bytes : request->length;
	if (wanted)
		ret = receive(link->fd, request->buffer, wanted);
	if (!ret)
		ret = discard(link->fd, frame->bytes - wanted);
	link->progress = time(NULL);
	if (!request)
		return ret;
	switch (frame->type) {
	case FRAME_RESPONSE:
		request->result = ret || (request->buffer && wanted != request->length) ? -EIO : 0;
		break;
	case FRAME_EOF:
		request->result = 0;
		break;
	case FRAME_NO_SPACE:
		request->result = -ENOSPC;
		break;
	default:
		request->result = -EFAULT;
	}
	request->done = 1;
	pthread_cond_signal(&request->answered);
	return ret;
}

static void *read_answers(void *arg)
{
	struct link *link = arg;
	struct frame frame;
	int ret = 0;

	while (!ret && !receive(link->fd, &frame, sizeof(frame)) && frame.magic == FRAME_MAGIC
		&& frame.type != FRAME_CLOSE) {
		pthread_mutex_lock(&link->lock);
		ret = take(link, &frame);
		pthread_mutex_unlock(&link->lock);
	}
	pthread_mutex_lock(&link->lock);
	link->broken = 1;
	for (int i = 0; i < SLOTS; i++) {
		link->requests[i].done = 1;
		pthread_cond_signal(&link->requests[i].answered);
	}
	pthread_cond_broadcast(&link->freed);
	pthread_mutex_unlock(&link->lock);
	return NULL;
}

static void link_close(struct link *link)
{
	shutdown(link->fd, SHUT_RDWR);
	pthread_join(link->reader, NULL);
	close(link->fd);
	free(link);
}

static struct link *link_open(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct link *link = calloc(1, sizeof(*link));

	if (!link || strlen(path) >= sizeof(address.sun_path))
		goto fail;
	strcpy(address.sun_path, path);
	link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (link->fd < 0)
		goto fail;
	for (int i = 1; connect(link->fd, (struct sockaddr *) &address, sizeof(address)); i++) {
		eprintf("cannot connect to %s, %m\n", path);
		if (i == CONNECT_ATTEMPTS)
			goto fail_connected;
		sleep(CONNECT_PAUSE_S);
	}
	pthread_mutex_init(&link->lock, NULL);
	pthread_mutex_init(&link->sending, NULL);
	pthread_cond_init(&link->freed, NULL);
	for (int i = 0; i < SLOTS; i++)
		pthread_cond_init(&link->requests[i].answered, NULL);
	if (!pthread_create(&link->reader, NULL, read_answers, link))
		return link;
fail_connected:
	close(link->fd);
fail:
	free(link);
	return NULL;
}

/* One request and its answer. 0, or a negative error. */
static int ask(struct volume *volume, uint32_t type, uint64_t offset, char *buffer, uint32_t length)
{
	struct link *link = volume->link;
	struct request *request = NULL;
	struct frame frame = { .magic = FRAME_MAGIC, .type = type, .offset = offset, .size = length,
		.bytes = type == FRAME_WRITE ? length : 0 };
	int ret;

	pthread_mutex_lock(&link->lock);
	while (!link->broken && !request) {
		for (int i = 0; i < SLOTS && !request; i++)
			if (!link->requests[i].used)
				request = &link->requests[i];
		if (!request)
			pthread_cond_wait(&link->freed, &link->lock);
	}
	if (link->broken) {
		pthread_mutex_unlock(&link->lock);
		return -EFAULT;
	}
	request->used = 1;
	request->done = 0;
	request->result = -EFAULT;
	request->seq = frame.seq = link->next_seq++;
	request->buffer = type == FRAME_READ ? buffer : NULL;
	request->length = length;
	link->progress = time(NULL);
	pthread_mutex_unlock(&link->lock);

	pthread_mutex_lock(&link->sending);
	ret = send_all(link->fd, &frame, sizeof(frame));
	if (!ret && frame.bytes)
		ret = send_all(link->fd, buffer, frame.bytes);
	pthread_mutex_unlock(&link->sending);
	if (ret)
		shutdown(link->fd, SHUT_RDWR);

	pthread_mutex_lock(&link->lock);
	while (!request->done) {
		struct timespec limit = { .tv_sec = link->progress + volume->timeout_s + 1 };
		pthread_cond_timedwait(&request->answered, &link->lock, &limit);
		if (!request->done && time(NULL) > link->progress + volume->timeout_s) {
			eprintf("no answer within %u s\n", volume->timeout_s);
			request->result = -EFAULT;
			break;
		}
	}
	ret = request->result;
	request->used = 0;
	pthread_cond_signal(&link->freed);
	pthread_mutex_unlock(&link->lock);
	return ret;
}

static void failed(struct scsi_cmd *cmd, uint8_t key, uint16_t code)
{
	scsi_set_result(cmd, SAM_STAT_CHECK_CONDITION);
	sense_data_build(cmd, key, code);
}

static void unmap(struct scsi_cmd *cmd, struct volume *volume)
{
	uint32_t left = scsi_get_out_length(cmd);
	uint8_t *at = scsi_get_out_buffer(cmd);

	for (at += 8; left >= 8 + 16; at += 16, left -= 16) {
		uint64_t offset = get_unaligned_be64(at) << cmd->dev->blk_shift;
		uint64_t length = (uint64_t) get_unaligned_be32(at + 8) << cmd->dev->blk_shift;

		if (offset > volume->size || length > volume->size - offset) {
			failed(cmd, ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
			return;
		}
		while (length > 0) {
			uint32_t part = length > (1U << 30) ? 1U << 30 : length;
			if (ask(volume, FRAME_UNMAP, offset, NULL, part)) {
				failed(cmd, HARDWARE_ERROR, ASC_INTERNAL_TGT_FAILURE);
				return;
			}
			offset += part;
			length -= part;
		}
	}
}

/* Commands that run hold the lock for reading: when this has it, none does, and what comes waits. */
static void exchange(struct scsi_cmd *cmd, struct volume *volume)
{
	struct link *link;

	pthread_rwlock_wrlock(&volume->medium);
	link = link_open(cmd->dev->path);
	if (link) {
		link_close(volume->link);
		volume->link = link;
		eprintf("exchanged the connection to %s\n", cmd->dev->path);
	} else
		failed(cmd, HARDWARE_ERROR, ASC_INTERNAL_TGT_FAILURE);
	pthread_rwlock_unlock(&volume->medium);
}

static void transfer(struct scsi_cmd *cmd, struct volume *volume, int write)
{
	int ret = write ? ask(volume, FRAME_WRITE, cmd->offset, scsi_get_out_buffer(cmd), scsi_get_out_length(cmd))
		: ask(volume, FRAME_READ, cmd->offset, scsi_get_in_buffer(cmd), scsi_get_in_length(cmd));

	if (ret == -ENOSPC)
		failed(cmd, DATA_PROTECT, 0x2707);
	else if (ret)
		failed(cmd, MEDIUM_ERROR, ASC_READ_ERROR);
}

/* Runs in one of tgtd's threads for this unit. */
static void perform(struct scsi_cmd *cmd)
{
	struct volume *volume = volume_of(cmd->dev);

	scsi_set_result(cmd, SAM_STAT_GOOD);
	if (cmd->scb[0] == EXCHANGE_MEDIUM) {
		exchange(cmd, volume);
		return;
	}
	pthread_rwlock_rdlock(&volume->medium);
	switch (cmd->scb[0]) {
	case READ_6:
	case READ_10:
	case READ_12:
	case READ_16:
		transfer(cmd, volume, 0);
		break;
	case WRITE_6:
	case WRITE_10:
	case WRITE_12:
	case WRITE_16:
		transfer(cmd, volume, 1);
		break;
	case UNMAP:
		unmap(cmd, volume);
		break;
	case SYNCHRONIZE_CACHE:
	case SYNCHRONIZE_CACHE_16:
		break;
	default:
		failed(cmd, ILLEGAL_REQUEST, ASC_INVALID_OP_CODE);
	}
	pthread_rwlock_unlock(&volume->medium);
}

static int queue_exchange(int host, struct scsi_cmd *cmd)
{
	return cmd->dev->bst->bs_cmd_submit(cmd) ? SAM_STAT_CHECK_CONDITION : SAM_STAT_GOOD;
}

static uint64_t option(const char *options, const char *name, uint64_t otherwise)
{
	const char *at = options ? strstr(options, name) : NULL;

	return at ? strtoull(at + strlen(name), NULL, 10) : otherwise;
}

/* tgtd itself knows no change of a unit's options. tgtadm sends what follows --params behind a word of its own. */
static tgtadm_err configure(struct scsi_lu *lu, char *params)
{
	struct volume *volume = volume_of(lu);
	uint64_t size;

	if (!strstr(params, "bsopts="))
		return spc_lu_config(lu, params);
	size = option(params, "bsopts=size=", 0);
	if (size < volume->size)
		return TGTADM_INVALID_REQUEST;
	volume->size = lu->size = size;
	return TGTADM_SUCCESS;
}

static tgtadm_err init(struct scsi_lu *lu, char *options)
{
	struct volume *volume = volume_of(lu);
	pthread_rwlockattr_t kind;

	volume->size = option(options, "size=", 0);
	volume->timeout_s = option(options, "request_timeout=", DEFAULT_TIMEOUT_S);
	/* Else commands that keep coming would keep an exchange from ever having its turn. */
	pthread_rwlockattr_init(&kind);
	pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&volume->medium, &kind);
	pthread_rwlockattr_destroy(&kind);
	lu->dev_type_template.ops[EXCHANGE_MEDIUM].cmd_perform = queue_exchange;
	lu->dev_type_template.lu_config = configure;
	return bs_thread_open(&volume->threads, perform, nr_iothreads);
}

static void destroy(struct scsi_lu *lu)
{
	bs_thread_close(&volume_of(lu)->threads);
}

static int open_volume(struct scsi_lu *lu, char *path, int *fd, uint64_t *size)
{
	struct volume *volume = volume_of(lu);

	if (!volume->size)
		return -EINVAL;
	volume->link = link_open(path);
	if (!volume->link)
		return -ENOENT;
	*fd = volume->link->fd;
	*size = volume->size;
	return 0;
}

static void close_volume(struct scsi_lu *lu)
{
	link_close(volume_of(lu)->link);
	volume_of(lu)->link = NULL;
}

static struct backingstore_template store = {
	.bs_name = "longhorn",
	.bs_datasize = sizeof(struct volume),
	.bs_open = open_volume,
	.bs_close = close_volume,
	.bs_init = init,
	.bs_exit = destroy,
	.bs_cmd_submit = bs_thread_cmd_submit,
};

/* tgtd looks for this name. */
void register_bs_module(void)
{
	unsigned char commands[] = { ALLOW_MEDIUM_REMOVAL, EXCHANGE_MEDIUM, INQUIRY, MAINT_PROTOCOL_IN, MODE_SELECT,
		MODE_SELECT_10, MODE_SENSE, MODE_SENSE_10, PERSISTENT_RESERVE_IN, PERSISTENT_RESERVE_OUT, READ_6,
		READ_10, READ_12, READ_16, READ_CAPACITY, RELEASE, REPORT_LUNS, REQUEST_SENSE, RESERVE,
		SEND_DIAGNOSTIC, SERVICE_ACTION_IN, START_STOP, SYNCHRONIZE_CACHE, SYNCHRONIZE_CACHE_16,
		TEST_UNIT_READY, UNMAP, WRITE_6, WRITE_10, WRITE_12, WRITE_16 };

	bs_create_opcode_map(&store, commands, ARRAY_SIZE(commands));
	register_backingstore_template(&store);
}
