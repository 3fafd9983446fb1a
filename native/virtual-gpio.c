/*
 * A GPIO chip that isn't there: serves /sys/class/gpio as the kernel does (Documentation/admin-guide/gpio/sysfs.rst), by FUSE,
 * in a mount namespace of its own.
 *
 *   virtual-gpio [--group GID] LABEL BASE LINES [LABEL BASE LINES]...
 *                                                           serves the chips until stdin ends or SIGTERM comes; the group,
 *                                                           by its number, may do what root may, as udev's rules have it
 *   virtual-gpio --enter PID COMMAND [ARGUMENT]...          becomes COMMAND, where the chips of that process are seen
 *
 * Lines are named by their sysfs number (BASE + offset). On stdin, what happens outside of the computer:
 *   drive N 0|1   puts a level on line N; an input sees it at once, an output once it is an input again
 *   follow N M    a contact on line N is moved by the relay on line M, and has its level from now on; M = -1: it sticks
 *   take N        a kernel driver takes line N: exporting it is EBUSY, and there is no gpioN
 *   free N        and gives it back
 * On stdout: `ready` when mounted, then `level N V T` for each change of a line's level, whoever caused it, with T in µs of
 * CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 35
#include <err.h>
#include <errno.h>
#include <fuse3/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "gpio-lines.h"
#include "gpio-namespace.h"

/* ---- names ---- */

static int find(const char *path, struct place *place) {
	*place = (struct place){ .parent = OF_CLASS, .attribute = DIRECTORY };
	int number, used = 0;
	const char *name = path + 1;
	if (sscanf(name, "gpiochip%d%n", &number, &used) == 1 && used > 0) {
		place->parent = OF_CHIP;
		for (int i = 0; i < chip_count; i++)
			if (chips[i].base == number) place->chip = &chips[i];
		if (place->chip == NULL) return -ENOENT;
	} else if (sscanf(name, "gpio%d%n", &number, &used) == 1 && used > 0) {
		place->parent = OF_LINE;
		place->line = line_of(number);
		if (place->line == NULL || !place->line->exported) return -ENOENT;
	}
	if (place->parent != OF_CLASS) name += used;
	if (place->parent != OF_CLASS && *name != '\0' && *name++ != '/') return -ENOENT;
	if (*name == '\0') return 0;
	for (int i = 1; i < ATTRIBUTES; i++)
		if (attributes[i].parent == place->parent && strcmp(attributes[i].name, name) == 0) {
			place->attribute = i;
			return 0;
		}
	return -ENOENT;
}

static int get_attributes(const char *path, struct stat *status, struct fuse_file_info *info) {
	(void)info;
	struct place place;
	pthread_mutex_lock(&mutex);
	int result = find(path, &place);
	bool directory = place.attribute == DIRECTORY;
	pthread_mutex_unlock(&mutex);
	mode_t mode = attributes[place.attribute].mode;
	*status = (struct stat){
		.st_mode = (directory ? S_IFDIR : S_IFREG) | (group < 0 ? mode : mode | (mode & 0700) >> 3),
		.st_nlink = directory ? 2 : 1, .st_size = directory ? 0 : 4096, .st_uid = getuid(), .st_gid = group < 0 ? getgid() : (gid_t)group,
	};
	return result;
}

static int list(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
		enum fuse_readdir_flags flags) {
	(void)offset, (void)info, (void)flags;
	struct place place;
	char name[32];
	pthread_mutex_lock(&mutex);
	int result = find(path, &place);
	if (result == 0) {
		fill(buffer, ".", NULL, 0, 0);
		fill(buffer, "..", NULL, 0, 0);
		for (int i = 1; i < ATTRIBUTES; i++)
			if (attributes[i].parent == place.parent) fill(buffer, attributes[i].name, NULL, 0, 0);
	}
	for (int i = 0; result == 0 && place.parent == OF_CLASS && i < chip_count; i++) {
		snprintf(name, sizeof name, "gpiochip%d", chips[i].base);
		fill(buffer, name, NULL, 0, 0);
		for (int j = 0; j < chips[i].count; j++) {
			if (!chips[i].lines[j].exported) continue;
			snprintf(name, sizeof name, "gpio%d", chips[i].lines[j].number);
			fill(buffer, name, NULL, 0, 0);
		}
	}
	pthread_mutex_unlock(&mutex);
	return result;
}

/* ---- open files ---- */

static int open_file(const char *path, struct fuse_file_info *info) {
	struct open_file *file = calloc(1, sizeof *file);
	if (file == NULL) return -ENOMEM;
	pthread_mutex_lock(&mutex);
	int result = find(path, &file->place);
	struct line *line = file->place.line;
	if (result == 0 && line != NULL) {
		file->edges_read = line->edges_seen - 1; /* as kernfs: pollable until it has been read once */
		file->next = line->files;
		line->files = file;
	}
	pthread_mutex_unlock(&mutex);
	if (result != 0) free(file);
	info->fh = (uint64_t)file;
	info->direct_io = 1;
	return result;
}

static int close_file(const char *path, struct fuse_file_info *info) {
	(void)path;
	struct open_file *file = (struct open_file *)info->fh;
	pthread_mutex_lock(&mutex);
	if (file->place.line != NULL) {
		struct open_file **link = &file->place.line->files;
		while (*link != file) link = &(*link)->next;
		*link = file->next;
	}
	if (file->waiter != NULL) fuse_pollhandle_destroy(file->waiter);
	pthread_mutex_unlock(&mutex);
	free(file);
	return 0;
}

static int read_file(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
	(void)path;
	struct open_file *file = (struct open_file *)info->fh;
	const struct chip *chip = file->place.chip;
	const struct line *line = file->place.line;
	char text[128] = "";
	pthread_mutex_lock(&mutex);
	bool gone = file->gone;
	if (line != NULL) file->edges_read = line->edges_seen;
	switch (file->place.attribute) {
	case LABEL: snprintf(text, sizeof text, "%s\n", chip->label); break;
	case BASE: snprintf(text, sizeof text, "%d\n", chip->base); break;
	case NGPIO: snprintf(text, sizeof text, "%d\n", chip->count); break;
	case VALUE: snprintf(text, sizeof text, "%d\n", level_of(line) != line->active_low); break;
	case DIRECTION: snprintf(text, sizeof text, "%s\n", line->output ? "out" : "in"); break;
	case EDGE: snprintf(text, sizeof text, "%s\n", edges[line->edge]); break;
	case ACTIVE_LOW: snprintf(text, sizeof text, "%d\n", line->active_low); break;
	default: pthread_mutex_unlock(&mutex); return -EIO;
	}
	pthread_mutex_unlock(&mutex);
	if (gone) return -ENODEV;
	size_t length = strlen(text);
	if ((size_t)offset >= length) return 0;
	length -= offset;
	if (length > size) length = size;
	memcpy(buffer, text + offset, length);
	return length;
}

static int poll_file(const char *path, struct fuse_file_info *info, struct fuse_pollhandle *waiter, unsigned *ready) {
	(void)path;
	struct open_file *file = (struct open_file *)info->fh;
	pthread_mutex_lock(&mutex);
	*ready = POLLIN | POLLOUT;
	if (file->gone || (file->place.attribute == VALUE && file->edges_read != file->place.line->edges_seen))
		*ready |= POLLPRI | POLLERR;
	if (waiter != NULL) {
		if (file->waiter != NULL) fuse_pollhandle_destroy(file->waiter);
		file->waiter = waiter;
	}
	pthread_mutex_unlock(&mutex);
	return 0;
}

/* ---- writes ---- */

static int write_file(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *info) {
	(void)path, (void)offset;
	struct open_file *file = (struct open_file *)info->fh;
	struct line *line = file->place.line;
	char text[32] = "", *end;
	memcpy(text, buffer, size < sizeof text ? size : sizeof text - 1);
	text[strcspn(text, "\n")] = '\0';
	errno = 0;
	long number = strtol(text, &end, 0);
	bool is_number = end != text && *end == '\0' && errno == 0;
	int result = is_number ? 0 : -EINVAL;

	pthread_mutex_lock(&mutex);
	bool before = line != NULL && level_of(line);
	if (file->gone) result = -ENODEV;
	else switch (file->place.attribute) {
	case EXPORT: if (is_number) result = write_export(number); break;
	case UNEXPORT: if (is_number) result = write_unexport(number); break;
	case DIRECTION: result = write_direction(line, text); break;
	case EDGE: result = write_edge(line, text); break;
	case ACTIVE_LOW: if (is_number) line->active_low = number != 0; break;
	case VALUE:
		if (!line->output) result = -EPERM;
		else if (is_number) line->latch = (number != 0) != line->active_low;
		break;
	default: result = -EIO;
	}
	if (line != NULL) settle(line, before);
	pthread_mutex_unlock(&mutex);
	return result == 0 ? (int)size : result;
}

/* Opening for writing truncates first; a sysfs attribute has nothing to truncate. */
static int truncate_file(const char *path, off_t size, struct fuse_file_info *info) {
	return (void)path, (void)size, (void)info, 0;
}

static void *initialise(struct fuse_conn_info *connection, struct fuse_config *config) {
	config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
	return (void)connection, NULL;
}

static const struct fuse_operations operations = {
	.init = initialise, .getattr = get_attributes, .readdir = list, .open = open_file, .release = close_file,
	.read = read_file, .write = write_file, .poll = poll_file, .truncate = truncate_file,
};

/* ---- the world outside ---- */

static void finish(int signal) {
	umount2(GPIO_CLASS, MNT_DETACH);
	_exit(signal == SIGTERM ? 0 : signal);
}

static void *follow_stdin(void *unused) {
	char row[128], verb[16];
	while (fgets(row, sizeof row, stdin) != NULL) {
		int number, level = 0;
		int fields = sscanf(row, "%15s %d %d", verb, &number, &level);
		pthread_mutex_lock(&mutex);
		struct line *line = fields >= 2 ? line_of(number) : NULL;
		bool before = line != NULL && level_of(line);
		if (line == NULL) {
			warnx("no such line: %s", row);
		} else if (fields == 3 && strcmp(verb, "drive") == 0) {
			line->outside = level != 0;
			settle(line, before);
		} else if (fields == 3 && strcmp(verb, "follow") == 0 && level != number) {
			line->follows = level < 0 ? NULL : line_of(level);
			if (line->follows != NULL) carry(line->follows);
		} else if (strcmp(verb, "take") == 0 || strcmp(verb, "free") == 0) {
			if (line->exported) write_unexport(number);
			line->taken = *verb == 't';
		} else {
			warnx("not understood: %s", row);
		}
		pthread_mutex_unlock(&mutex);
	}
	finish(0);
	return unused;
}

static long number_of(const char *text, long most) {
	char *end;
	long number = strtol(text, &end, 10);
	if (end == text || *end != '\0' || number < 0 || number > most) errx(2, "%s is not a number from 0 to %ld", text, most);
	return number;
}

int main(int count, char **arguments) {
	if (count >= 4 && strcmp(arguments[1], "--enter") == 0) enter(arguments[2], arguments + 3);
	if (count > 2 && strcmp(arguments[1], "--group") == 0) {
		group = number_of(arguments[2], 65534);
		arguments[2] = arguments[0];
		arguments += 2, count -= 2;
	}
	if (count < 4 || count % 3 != 1 || count / 3 > MOST_CHIPS) errx(2, "usage: virtual-gpio [--group GID] LABEL BASE LINES ...");
	for (int i = 1; i < count; i += 3) {
		struct chip *chip = &chips[chip_count++];
		*chip = (struct chip){ arguments[i], number_of(arguments[i + 1], 1 << 20), number_of(arguments[i + 2], MOST_LINES), NULL };
		chip->lines = calloc(chip->count, sizeof *chip->lines);
		for (int j = 0; j < chip->count; j++) chip->lines[j].number = chip->base + j;
	}
	signal(SIGTERM, finish);
	signal(SIGINT, SIG_IGN); /* Ctrl-C is for the programs on the board; whoever started it ends the board after them */
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM);

	own_mounts();
	make_mount_point();
	char *options[] = { arguments[0], "-odefault_permissions,fsname=virtual-gpio", "-oallow_other", NULL };
	struct fuse_args fuse_arguments = FUSE_ARGS_INIT(geteuid() == 0 ? 3 : 2, options);
	struct fuse *fuse = fuse_new(&fuse_arguments, &operations, sizeof operations, NULL);
	if (fuse == NULL || fuse_mount(fuse, GPIO_CLASS) != 0) errx(1, "cannot mount " GPIO_CLASS " by FUSE (is /dev/fuse there?)");
	pthread_t follower;
	if (pthread_create(&follower, NULL, follow_stdin, NULL) != 0) errx(1, "cannot start a thread");
	printf("ready\n");
	fflush(stdout);
	return fuse_loop(fuse);
}
