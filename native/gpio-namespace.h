/* A mount namespace in which /sys/class/gpio is ours: made by the virtual GPIO chip, entered by the programs on its board. */
#pragma once
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define GPIO_CLASS "/sys/class/gpio"

static inline void write_text(const char *path, const char *text) {
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0) err(1, "cannot write %s", path);
	close(fd);
}

/* Mounts of our own: as root, or as anybody by a user namespace in which everyone keeps their ids. */
static inline void own_mounts(void) {
	if (unshare(CLONE_NEWNS) != 0) {
		char ids[64];
		uid_t user = getuid();
		gid_t group = getgid();
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
			err(1, "cannot make a mount namespace (be root, or allow user namespaces)");
		snprintf(ids, sizeof ids, "%u %u 1", user, user);
		write_text("/proc/self/uid_map", ids);
		write_text("/proc/self/setgroups", "deny");
		snprintf(ids, sizeof ids, "%u %u 1", group, group);
		write_text("/proc/self/gid_map", ids);
	}
	/* What is mounted elsewhere meanwhile is seen here, and nothing of ours there. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) err(1, "cannot keep mounts private");
}

/* Where the kernel has no /sys/class/gpio, nobody can make it: a tmpfs over /sys/class has it, beside all that was there. */
static inline void make_mount_point(void) {
	struct stat status;
	if (stat(GPIO_CLASS, &status) == 0) return;
	int old = open("/sys/class", O_RDONLY | O_DIRECTORY);
	if (old < 0 || mount("tmpfs", "/sys/class", "tmpfs", 0, "mode=0755") != 0) err(1, "cannot mount over /sys/class");
	char from[300], to[300];
	DIR *classes = fdopendir(old);
	for (struct dirent *entry; classes != NULL && (entry = readdir(classes)) != NULL;) {
		if (entry->d_name[0] == '.') continue;
		snprintf(from, sizeof from, "/proc/self/fd/%d/%s", old, entry->d_name);
		snprintf(to, sizeof to, "/sys/class/%s", entry->d_name);
		if (mkdir(to, 0755) == 0) mount(from, to, NULL, MS_BIND | MS_REC, NULL);
	}
	closedir(classes);
	if (mkdir(GPIO_CLASS, 0755) != 0) err(1, "cannot make " GPIO_CLASS);
}

/* Keeps the working directory, the open files and the process id, so that whoever started us holds COMMAND itself. */
static inline void enter(const char *pid, char **command) {
	char path[64], *here = getcwd(NULL, 0);
	struct stat ours, theirs;
	snprintf(path, sizeof path, "/proc/%s/ns/mnt", pid);
	int mounts = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof path, "/proc/%s/ns/user", pid);
	int users = open(path, O_RDONLY | O_CLOEXEC);
	if (mounts < 0 || users < 0) err(1, "process %s serves no GPIO chip", pid);
	bool foreign = stat("/proc/self/ns/user", &ours) == 0 && fstat(users, &theirs) == 0 && ours.st_ino != theirs.st_ino;
	if (foreign && setns(users, CLONE_NEWUSER) != 0) err(1, "cannot enter the user namespace of %s", pid);
	if (setns(mounts, CLONE_NEWNS) != 0) err(1, "cannot enter the mounts of %s", pid);
	if (here == NULL || chdir(here) != 0) err(1, "cannot come back to the working directory");
	execvp(command[0], command);
	err(127, "cannot run %s", command[0]);
}
