/* A slow line between two network namespaces of this machine, for kernels without netem.
 *
 *     link NAMESPACE NAMESPACE BITS_PER_SECOND DELAY_MS QUEUE_BYTES LOSS_PERCENT
 *
 * Each namespace gets a device wan0 (TUN: IP packets). What is sent into one comes out of the other, both ways
 * alike: it waits in a queue of QUEUE_BYTES, which drops what does not fit, is sent at the given rate, and arrives
 * DELAY_MS later, but for LOSS_PERCENT of all packets. A rate of 0 is no limit. Prints "up", then works until killed.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST = 1600, ON_THE_WAY = 65536 };
#define SECOND 1000000000LL

struct packet {
	int64_t arrives;
	int length;
	char bytes[LARGEST];
};

/* One direction: one thread reads and says when a packet arrives, another one waits for that and writes it. */
struct direction {
	int from, to;
	double rate, loss, queue;
	int64_t delay;
	struct packet *ring;
	unsigned long read, written;
	pthread_mutex_t lock;
	pthread_cond_t news;
};

static int64_t now(void)
{
	struct timespec moment;
	clock_gettime(CLOCK_MONOTONIC, &moment);
	return moment.tv_sec * SECOND + moment.tv_nsec;
}

static int device_in(const char *name)
{
	char path[256];
	snprintf(path, sizeof path, "/run/netns/%s", name);
	int there = open(path, O_RDONLY | O_CLOEXEC);
	if (there < 0 || setns(there, CLONE_NEWNET))
		err(1, "%s", path);
	close(there);
	int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "wan0" };
	if (device < 0 || ioctl(device, TUNSETIFF, &request))
		err(1, "wan0 in %s", name);
	return device;
}

static void *reader(void *argument)
{
	struct direction *way = argument;
	struct packet packet;
	unsigned int dice = (unsigned int)now();
	int64_t free_at = 0; /* when what is in the queue by now has been sent */
	for (;;) {
		packet.length = (int)read(way->from, packet.bytes, LARGEST);
		if (packet.length <= 0)
			continue;
		int64_t time = now();
		if (free_at < time)
			free_at = time;
		if (way->rate > 0) {
			if ((double)(free_at - time) / SECOND * way->rate / 8 > way->queue)
				continue;
			free_at += (int64_t)(packet.length * 8.0 / way->rate * SECOND);
		}
		/* Lost on the way: it has taken its time on the line all the same. */
		if (rand_r(&dice) / (RAND_MAX + 1.0) * 100 < way->loss)
			continue;
		packet.arrives = free_at + way->delay;
		pthread_mutex_lock(&way->lock);
		if (way->read - way->written < ON_THE_WAY)
			way->ring[way->read++ % ON_THE_WAY] = packet;
		pthread_cond_signal(&way->news);
		pthread_mutex_unlock(&way->lock);
	}
	return NULL;
}

static void *writer(void *argument)
{
	struct direction *way = argument;
	prctl(PR_SET_TIMERSLACK, 1000UL);
	for (;;) {
		pthread_mutex_lock(&way->lock);
		while (way->read == way->written)
			pthread_cond_wait(&way->news, &way->lock);
		struct packet *packet = &way->ring[way->written % ON_THE_WAY];
		pthread_mutex_unlock(&way->lock);
		struct timespec when = { packet->arrives / SECOND, packet->arrives % SECOND };
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL))
			;
		/* While the device is down it is lost, as on any line. */
		ssize_t written = write(way->to, packet->bytes, (size_t)packet->length);
		(void)written;
		pthread_mutex_lock(&way->lock);
		way->written++;
		pthread_mutex_unlock(&way->lock);
	}
	return NULL;
}

int main(int count, char **words)
{
	static struct direction ways[2];
	if (count != 7)
		errx(2, "usage: link NAMESPACE NAMESPACE BITS_PER_SECOND DELAY_MS QUEUE_BYTES LOSS_PERCENT");
	int ends[2] = { device_in(words[1]), device_in(words[2]) };
	for (int i = 0; i < 2; i++) {
		struct direction *way = &ways[i];
		way->from = ends[i];
		way->to = ends[1 - i];
		way->rate = atof(words[3]);
		way->delay = (int64_t)(atof(words[4]) * SECOND / 1000);
		way->queue = atof(words[5]);
		way->loss = atof(words[6]);
		way->ring = calloc(ON_THE_WAY, sizeof *way->ring);
		pthread_mutex_init(&way->lock, NULL);
		pthread_cond_init(&way->news, NULL);
		pthread_t thread;
		if (!way->ring || pthread_create(&thread, NULL, reader, way) || pthread_create(&thread, NULL, writer, way))
			errx(1, "no memory");
	}
	puts("up");
	fflush(stdout);
	pause();
	return 0;
}
