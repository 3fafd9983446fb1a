/*
 * Cuts the power of an ext4 file system at the moment in which a file of it says something: from then on nothing is written to its disk
 * any more, not even what its journal holds back, and programs get I/O errors. Unmounted and mounted again it is what a power cut
 * leaves: the journal is replayed, and what was not synced is lost.
 *
 *   power-cut [-n] FOLDER NAME TEXT ...
 *
 * waits until the file NAME in FOLDER, whenever another one is renamed there, has every TEXT in it. It is a program of its own since
 * the next thing is written within a millisecond. With -n nothing is cut, else it needs root. On stdout: `waiting` once it does.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

/* Of fs/ext4/ext4.h; not every distribution's headers have it. */
#define EXT4_IOC_SHUTDOWN _IOR('X', 125, __u32)
#define EXT4_GOING_FLAGS_NOLOGFLUSH 2

static bool says_all(int folder, const char *name, char **texts) {
	static char content[1 << 16];
	int file = openat(folder, name, O_RDONLY);
	ssize_t count = file < 0 ? -1 : read(file, content, sizeof content - 1);
	if (file >= 0) close(file);
	if (count < 0) return false;
	content[count] = '\0';
	for (; *texts != NULL; texts++) {
		if (strstr(content, *texts) == NULL) return false;
	}
	return true;
}

int main(int count, char **arguments) {
	bool only_waits = count > 1 && strcmp(arguments[1], "-n") == 0;
	char **words = arguments + (only_waits ? 2 : 1);
	char events[4096];
	__u32 how = EXT4_GOING_FLAGS_NOLOGFLUSH;
	if (count - (words - arguments) < 3) errx(2, "usage: power-cut [-n] FOLDER NAME TEXT ...");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	int folder = open(words[0], O_RDONLY | O_DIRECTORY);
	int watch = inotify_init1(IN_CLOEXEC);
	if (folder < 0 || watch < 0 || inotify_add_watch(watch, words[0], IN_MOVED_TO) < 0) err(1, "cannot watch %s", words[0]);
	printf("waiting\n");
	fflush(stdout);
	while (!says_all(folder, words[1], words + 2)) {
		if (read(watch, events, sizeof events) <= 0) err(1, "cannot watch %s", words[0]);
	}
	if (!only_waits && ioctl(folder, EXT4_IOC_SHUTDOWN, &how) != 0) err(1, "cannot cut the power of %s", words[0]);
	return 0;
}
