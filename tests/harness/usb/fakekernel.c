/*
 * fakekernel: the parts of Linux and udevd that umockdev leaves out.
 *
 * Preloaded in front of libumockdev-preload.so.0, with the same UMOCKDEV_DIR. umockdev shows a made-up /sys and /dev and
 * turns libudev's netlink socket into a unix socket. This library adds:
 *
 *   /run/udev      is $UMOCKDEV_DIR/run/udev, where the harness plays udevd's database. Without it no device would be
 *                  initialized, and the machine's own database would shine through.
 *   control files  such as /sys/bus/usb/drivers/<driver>/unbind. The harness marks them with the sticky bit. A write to
 *                  one is not a write to a file: it goes to the harness, which plays the kernel, does what has to be
 *                  done and answers with an errno, before write() returns.
 *   lost events    While a file $UMOCKDEV_DIR/overrun<fd> exists, the receive buffer of the uevent socket <fd> has
 *                  overflowed: the next receive fails with ENOBUFS, once.
 *
 * And it lets one thread at a time ask umockdev whether a file is in the made-up /sys.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

/* A pointer to the next definition of a function: umockdev's or the C library's. */
#define NEXT(function) ((__typeof__(&function))next(#function))

static void *next(const char *symbol)
{
	void *found = dlsym(RTLD_NEXT, symbol);

	if (!found)
		abort();
	return found;
}

static const char *testbed(void)
{
	const char *dir = getenv("UMOCKDEV_DIR");

	if (!dir)
		abort();
	return dir;
}

/* ------------------------------------------------------------------------------------------------------- fstatfs --- */

/*
 * umockdev tells by a path in static memory whether a file is in the made-up /sys (src/libumockdev-preload.c:
 * is_fd_in_mock). When two threads asked at once, libudev took a device for one that is not there.
 */
static pthread_mutex_t fstatfs_turn = PTHREAD_MUTEX_INITIALIZER;

#define IN_TURN(function, type)                                                                                        \
	int function(int fd, struct type *answer)                                                                      \
	{                                                                                                              \
		pthread_mutex_lock(&fstatfs_turn);                                                                     \
		int result = NEXT(function)(fd, answer);                                                               \
		int error = errno;                                                                                     \
		pthread_mutex_unlock(&fstatfs_turn);                                                                   \
		errno = error;                                                                                         \
		return result;                                                                                         \
	}

IN_TURN(fstatfs, statfs)
IN_TURN(fstatfs64, statfs64)

/* ------------------------------------------------------------------------------------------------------ /run/udev --- */

/* Where a path is really kept: as it is, or in the test bed, which is written to `buffer`. */
static const char *moved(const char *path, char buffer[PATH_MAX])
{
	static const char udev[] = "/run/udev";

	if (!path || strncmp(path, udev, sizeof(udev) - 1) != 0)
		return path;
	snprintf(buffer, PATH_MAX, "%s%s", testbed(), path);
	return buffer;
}

/* The optional last argument of open() and its kin. */
static mode_t mode_of(int flags, va_list *arguments)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(*arguments, mode_t) : 0;
}

#define MOVED_OPEN(function)                                                                                           \
	int function(const char *path, int flags, ...)                                                                 \
	{                                                                                                              \
		char buffer[PATH_MAX];                                                                                 \
		va_list arguments;                                                                                     \
		mode_t mode;                                                                                           \
                                                                                                                       \
		va_start(arguments, flags);                                                                            \
		mode = mode_of(flags, &arguments);                                                                     \
		va_end(arguments);                                                                                     \
		return NEXT(function)(moved(path, buffer), flags, mode);                                               \
	}

#define MOVED_OPENAT(function)                                                                                         \
	int function(int directory, const char *path, int flags, ...)                                                  \
	{                                                                                                              \
		char buffer[PATH_MAX];                                                                                 \
		va_list arguments;                                                                                     \
		mode_t mode;                                                                                           \
                                                                                                                       \
		va_start(arguments, flags);                                                                            \
		mode = mode_of(flags, &arguments);                                                                     \
		va_end(arguments);                                                                                     \
		return NEXT(function)(directory, moved(path, buffer), flags, mode);                                    \
	}

#define MOVED_FOPEN(function)                                                                                          \
	FILE *function(const char *path, const char *mode)                                                             \
	{                                                                                                              \
		char buffer[PATH_MAX];                                                                                 \
                                                                                                                       \
		return NEXT(function)(moved(path, buffer), mode);                                                      \
	}

/* libudev: a device's record in the database. */
MOVED_OPEN(open)
MOVED_OPEN(open64)
MOVED_OPENAT(openat)
MOVED_OPENAT(openat64)
MOVED_FOPEN(fopen)
MOVED_FOPEN(fopen64)

/* libudev: does udevd run? */
int access(const char *path, int mode)
{
	char buffer[PATH_MAX];

	return NEXT(access)(moved(path, buffer), mode);
}

int faccessat(int directory, const char *path, int mode, int flags)
{
	char buffer[PATH_MAX];

	return NEXT(faccessat)(directory, moved(path, buffer), mode, flags);
}

/* libudev: which devices carry a tag? */
DIR *opendir(const char *path)
{
	char buffer[PATH_MAX];

	return NEXT(opendir)(moved(path, buffer));
}

/* -------------------------------------------------------------------------------------------------- control files --- */

/* Whether the descriptor is a control file, and its path. */
static bool control_file(int fd, char path[PATH_MAX])
{
	char link[64];
	struct stat status;
	ssize_t length;

	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || !(status.st_mode & S_ISVTX))
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = NEXT(readlink)(link, path, PATH_MAX - 1);
	if (length < 0)
		return false;
	path[length] = '\0';
	return strncmp(path, testbed(), strlen(testbed())) == 0;
}

static bool send_all(int fd, const void *bytes, size_t count)
{
	for (const char *rest = bytes; count > 0;) {
		ssize_t sent = send(fd, rest, count, MSG_NOSIGNAL);

		if (sent < 0)
			return false;
		rest += sent;
		count -= (size_t)sent;
	}
	return true;
}

/* Tells the kernel's player of a write, and waits for the errno that it answers. */
static int32_t ask_kernel(const char *path, const void *bytes, size_t count)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = NEXT(socket)(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int32_t answer = EIO;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/kernel", testbed());
	if (fd < 0 || NEXT(connect)(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    !send_all(fd, path, strlen(path) + 1) || !send_all(fd, bytes, count) || shutdown(fd, SHUT_WR) != 0 ||
	    NEXT(recv)(fd, &answer, sizeof(answer), MSG_WAITALL) != (ssize_t)sizeof(answer))
		answer = EIO;
	if (fd >= 0)
		close(fd);
	return answer;
}

ssize_t write(int fd, const void *bytes, size_t count)
{
	int before = errno;
	char path[PATH_MAX];
	int32_t answer;

	if (!control_file(fd, path)) {
		errno = before;
		return NEXT(write)(fd, bytes, count);
	}
	answer = ask_kernel(path, bytes, count);
	errno = answer == 0 ? before : answer;
	return answer == 0 ? (ssize_t)count : -1;
}

/* ---------------------------------------------------------------------------------------------------- lost events --- */

/* Whether events of this socket were lost since the last question. */
static bool overrun(int fd)
{
	char path[PATH_MAX];
	int before = errno;
	bool lost;

	snprintf(path, sizeof(path), "%s/overrun%d", testbed(), fd);
	lost = NEXT(unlink)(path) == 0;
	errno = before;
	return lost;
}

/* libudev looks for the size of the next event with recv(MSG_PEEK), then takes it with recvmsg(). */
ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
	if (overrun(fd)) {
		errno = ENOBUFS;
		return -1;
	}
	return NEXT(recv)(fd, buffer, size, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	if (overrun(fd)) {
		errno = ENOBUFS;
		return -1;
	}
	return NEXT(recvmsg)(fd, message, flags);
}
