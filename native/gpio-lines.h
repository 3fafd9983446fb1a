/*
 * The lines of the virtual GPIO chips, and what the kernel lets be done with them by sysfs
 * (Documentation/admin-guide/gpio/sysfs.rst). Who calls holds the mutex. Results are 0 or an errno, negative.
 */
#pragma once
#include <errno.h>
#include <fuse3/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

enum { MOST_CHIPS = 8, MOST_LINES = 512 };
enum attribute { DIRECTORY, EXPORT, UNEXPORT, LABEL, BASE, NGPIO, VALUE, DIRECTION, EDGE, ACTIVE_LOW, ATTRIBUTES };
enum parent { OF_CLASS, OF_CHIP, OF_LINE };

static const struct { const char *name; enum parent parent; mode_t mode; } attributes[ATTRIBUTES] = {
	[DIRECTORY] = { NULL, OF_CLASS, 0755 },      [EXPORT] = { "export", OF_CLASS, 0200 },
	[UNEXPORT] = { "unexport", OF_CLASS, 0200 }, [LABEL] = { "label", OF_CHIP, 0444 },
	[BASE] = { "base", OF_CHIP, 0444 },          [NGPIO] = { "ngpio", OF_CHIP, 0444 },
	[VALUE] = { "value", OF_LINE, 0644 },        [DIRECTION] = { "direction", OF_LINE, 0644 },
	[EDGE] = { "edge", OF_LINE, 0644 },          [ACTIVE_LOW] = { "active_low", OF_LINE, 0644 },
};
static const char *const edges[] = { "none", "rising", "falling", "both" };

struct line {
	int number;
	bool exported, taken, output, active_low;
	bool outside, latch;      /* what the world puts on the pin; what the output register holds */
	unsigned edge;            /* index into edges: bit 0 rising, bit 1 falling */
	unsigned edges_seen;      /* counts events; an open value file that is behind it is pollable by POLLPRI */
	struct open_file *files;
	struct line *follows;     /* a contact that another line's relay moves */
};
struct chip { const char *label; int base, count; struct line *lines; };
struct place { enum parent parent; enum attribute attribute; struct chip *chip; struct line *line; };
struct open_file {
	struct place place;
	bool gone;                /* the line was unexported under it */
	unsigned edges_read;
	struct fuse_pollhandle *waiter;
	struct open_file *next;
};

static struct chip chips[MOST_CHIPS];
static int chip_count;
static long group = -1;       /* that may do as root does; -1: none */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct line *line_of(long number) {
	for (struct chip *chip = chips; chip < chips + chip_count; chip++)
		if (number >= chip->base && number < chip->base + chip->count) return &chip->lines[number - chip->base];
	return NULL;
}

static bool level_of(const struct line *line) { return line->output ? line->latch : line->outside; }

static void wake(struct open_file *file) {
	if (file->waiter == NULL) return;
	fuse_notify_poll(file->waiter);
	fuse_pollhandle_destroy(file->waiter);
	file->waiter = NULL;
}

static void settle(struct line *line, bool before);

/* What the line's relay moves has its level from now on. */
static void carry(struct line *relay) {
	for (struct chip *chip = chips; chip < chips + chip_count; chip++)
		for (int i = 0; i < chip->count; i++) {
			struct line *line = &chip->lines[i];
			if (line->follows != relay) continue;
			bool before = level_of(line);
			line->outside = level_of(relay);
			settle(line, before);
		}
}

/* Tells of a level that is no longer `before`, and raises the edge that an input watches for. Edges are of the logical value. */
static void settle(struct line *line, bool before) {
	bool level = level_of(line);
	if (level == before) return;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("level %d %d %lld\n", line->number, level, now.tv_sec * 1000000LL + now.tv_nsec / 1000);
	fflush(stdout);
	carry(line);
	bool rising = level != line->active_low;
	if (!line->exported || line->output || !(line->edge & (rising ? 1 : 2))) return;
	line->edges_seen++;
	for (struct open_file *file = line->files; file != NULL; file = file->next) wake(file);
}

static int write_export(long number) {
	struct line *line = line_of(number);
	if (line == NULL) return -EINVAL;
	if (line->exported || line->taken) return -EBUSY;
	line->exported = true;
	return 0;
}

/* Direction and level stay as they are; edge and active_low belong to the export and end with it. */
static int write_unexport(long number) {
	struct line *line = line_of(number);
	if (line == NULL || !line->exported) return -EINVAL;
	line->exported = line->active_low = false;
	line->edge = 0;
	for (struct open_file *file = line->files; file != NULL; file = file->next) {
		file->gone = true;
		wake(file);
	}
	return 0;
}

static int write_direction(struct line *line, const char *text) {
	bool high = strcmp(text, "high") == 0;
	if (high || strcmp(text, "low") == 0 || strcmp(text, "out") == 0) {
		line->latch = high; /* 'out' is 'low'; raw levels: active_low has no say here */
		line->output = true;
	} else if (strcmp(text, "in") == 0) {
		line->output = false;
	} else return -EINVAL;
	return 0;
}

static int write_edge(struct line *line, const char *text) {
	for (unsigned i = 0; i < 4; i++) {
		if (strcmp(edges[i], text) != 0) continue;
		if (i != 0 && line->output) return -EIO;
		line->edge = i;
		return 0;
	}
	return -EINVAL;
}
