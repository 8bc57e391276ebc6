/* Counts what maintainer scripts change, themselves or through what they call, and ends everything at one such step.
 *
 * Preloaded (LD_PRELOAD) into dpkg. A step is a file on the disk that is made, written, renamed or removed, or something
 * that systemd is told to do, while a maintainer script of ours runs. Before one happens for the first time it becomes a
 * line of /run/steps. /run/stop-at says before which all of this control group is killed: "script 7" is the seventh
 * line, "script config.toml" the first that ends so, "dpkg 7" the seventh file of ours that dpkg itself puts into its
 * place. With /run/wait-there it stops there instead, and makes that a directory.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HERE AT_FDCWD
#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Not by way of the functions below. */
static int opened(const char *path, int flags)
{
	return syscall(SYS_openat, HERE, path, flags | O_CLOEXEC, 0600);
}

static void contents(const char *path, char *text, size_t size)
{
	int file = opened(path, O_RDONLY);
	ssize_t length = file < 0 ? 0 : read(file, text, size - 1);
	text[length < 0 ? 0 : length] = 0;
	if (file >= 0)
		close(file);
}

static void end_all(void)
{
	char text[4096], path[4200], *own;
	if (!syscall(SYS_unlinkat, HERE, "/run/wait-there", 0))
		for (syscall(SYS_mkdirat, HERE, "/run/wait-there", 0700);;)
			pause();
	contents("/proc/self/cgroup", text, sizeof text);
	if ((own = strstr(text, "0::"))) {
		own[strcspn(own, "\n")] = 0;
		snprintf(path, sizeof path, "/sys/fs/cgroup%s/cgroup.kill", own + 3);
		int file = opened(path, O_WRONLY);
		if (file >= 0 && write(file, "1", 1) == 1)
			for (;;)
				pause();
	}
	abort();
}

static int is_the_one(const char *whose, long number, const char *line)
{
	char wanted[512], this_one[64];
	contents("/run/stop-at", wanted, sizeof wanted);
	snprintf(this_one, sizeof this_one, "%s %ld", whose, number);
	if (!strcmp(wanted, this_one))
		return 1;
	const char *named = strncmp(wanted, "script ", 7) ? NULL : strstr(line, wanted + 7);
	return named && !strcmp(named + strlen(wanted + 7), "\n");
}

/* Whether *line* is one of *text*; counts those that there are. */
static int is_in(const char *line, const char *text, long *lines)
{
	size_t length = strlen(line);
	int found = 0;
	for (; *text; text = strchr(text, '\n') + 1, ++*lines)
		found |= !strncmp(text, line, length);
	return found;
}

static void step(const char *what, const char *name)
{
	static long by_dpkg;
	static char seen[1 << 18];
	const char *script = getenv("DPKG_MAINTSCRIPT_NAME"), *package = getenv("DPKG_MAINTSCRIPT_PACKAGE");
	char line[4200];
	if (!script) {
		if (!strcmp(program_invocation_short_name, "dpkg") && strstr(name, "/usr/lib/jupyter-remote/"))
			if (!strcmp(what, "rename to") && is_the_one("dpkg", ++by_dpkg, ""))
				end_all();
		return;
	}
	if (!package || strcmp(package, "jupyter-remote"))
		return;
	/* Names that are made up: .config.toml.x3k_81ab and .statea8Gx1.tmp */
	int length = snprintf(line, sizeof line - 1, "%s: %s %s", script, what, name);
	if (length >= (int)sizeof line - 1)
		abort();
	char *last = strrchr(line, '/'), *end = strrchr(line, '.');
	if (last && last[1] == '.' && end > last + 1)
		strcpy(!strncmp(last, "/.state", 7) ? last + 7 : strlen(end) == 9 ? end : line + length, "");
	strcat(line, "\n");
	int log = opened("/run/steps", O_WRONLY | O_CREAT | O_APPEND);
	long number = 1;
	contents("/run/steps", seen, sizeof seen);
	if (is_in(line, seen, &number))
		goto done;
	if (write(log, line, strlen(line)) < 0)
		abort();
	if (is_the_one("script", number, line))
		end_all();
done:
	close(log);
}

/* What is only in memory is gone with the power anyway. */
static void changes(const char *what, const char *path)
{
	static const char *const passing[] = {"/dev/", "/proc/", "/sys/", "/run/", "/tmp/"};
	for (size_t one = 0; one < COUNT(passing); one++)
		if (!strncmp(path, passing[one], strlen(passing[one])))
			return;
	step(what, path);
}

static void makes(const char *what, int directory, const char *path)
{
	if (faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW))
		changes(what, path);
}

static void takes(const char *what, int directory, const char *path)
{
	if (!faccessat(directory, path, F_OK, AT_SYMLINK_NOFOLLOW))
		changes(what, path);
}

/* What asks systemd is no step. */
static void tells(const char *program, char *const words[])
{
	static const char *const asks[] = {"is-", "show", "list-", "cat", "status"};
	const char *name = strrchr(program, '/');
	char line[2048] = "";
	if (strcmp(name ? name + 1 : program, "systemctl") || (name && access(program, X_OK)))
		return;
	for (int one = 1; words[one]; one++) {
		for (size_t other = 0; other < COUNT(asks); other++)
			if (!strncmp(words[one], asks[other], strlen(asks[other])))
				return;
		snprintf(line + strlen(line), sizeof line - strlen(line), " %s", words[one]);
	}
	step("systemctl", line + 1);
}

#define INSTEAD(name, types, words, before) \
	int name types \
	{ \
		int(*real) types = dlsym(RTLD_NEXT, #name); \
		before; \
		return real words; \
	}

INSTEAD(rename, (const char *from, const char *to), (from, to), changes("rename to", to))
INSTEAD(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), changes("rename to", to))
INSTEAD(renameat2, (int a, const char *from, int b, const char *to, unsigned how), (a, from, b, to, how),
	changes("rename to", to))
INSTEAD(unlink, (const char *path), (path), takes("remove", HERE, path))
INSTEAD(unlinkat, (int at, const char *path, int flags), (at, path, flags), takes("remove", at, path))
INSTEAD(rmdir, (const char *path), (path), takes("remove", HERE, path))
INSTEAD(symlink, (const char *to, const char *path), (to, path), makes("link", HERE, path))
INSTEAD(symlinkat, (const char *to, int at, const char *path), (to, at, path), makes("link", at, path))
INSTEAD(link, (const char *from, const char *path), (from, path), makes("link", HERE, path))
INSTEAD(mkdir, (const char *path, mode_t mode), (path, mode), makes("make", HERE, path))
INSTEAD(mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), makes("make", at, path))
INSTEAD(execv, (const char *program, char *const words[]), (program, words), tells(program, words))
INSTEAD(execvp, (const char *program, char *const words[]), (program, words), tells(program, words))
INSTEAD(execve, (const char *program, char *const words[], char *const environment[]), (program, words, environment),
	tells(program, words))

#define OPENS(name, types, words) \
	int name types \
	{ \
		va_list more; \
		va_start(more, flags); \
		mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
		va_end(more); \
		if ((flags & O_ACCMODE) != O_RDONLY) \
			changes("write", path); \
		return syscall words; \
	}
OPENS(open, (const char *path, int flags, ...), (SYS_openat, HERE, path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), (SYS_openat, HERE, path, flags, mode))
OPENS(openat, (int at, const char *path, int flags, ...), (SYS_openat, at, path, flags, mode))
OPENS(openat64, (int at, const char *path, int flags, ...), (SYS_openat, at, path, flags, mode))
