/*
 * fakexen: the few answers of a hypervisor that xenstored and oxenstored need in order to run where there is none.
 *
 * Preloaded (LD_PRELOAD) into the daemons of Debian's xen-utils. It stands in for exactly those functions of libxenctrl,
 * libxenevtchn and libxengnttab that one of the two daemons calls while it starts, introduces domains, and looks which
 * domains are still alive; and it moves the daemon's files and its socket from /run and /var into one directory.
 *
 * The directory is $FAKEXEN_DIR. It is the whole interface to the harness:
 *
 *   dom.<domid>    the domain exists; the first word is its state: running, shutdown or dying. No file: no such domain.
 *   virq           a FIFO of event channel numbers, each a native uint32_t. Writing VIRQ_PORT is the hypervisor's
 *                  "some domain has changed its state" (VIRQ_DOM_EXC).
 *   ring.<domid>   the page through which that domain would talk to the daemon (a file that is mapped shared).
 *   xsd_port       the number of dom0's event channel, as in /proc/xen.
 *   socket         where clients connect.
 *
 * The daemon dies with the harness: its standard input is a pipe that the harness keeps open and never writes to.
 *
 * What is not here is answered by the real libraries, and those fail cleanly (there is no /dev/xen/privcmd). The functions
 * and layouts below are those of Xen 4.17 and 4.20 on 64-bit machines: libxenctrl's are not a stable interface.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

enum { PAGE = 4096, VIRQ_PORT = 1, FIRST_GUEST_PORT = 100 };

/* ------------------------------------------------------------------------------------------------ the directory --- */

static const char *directory(void)
{
	const char *dir = getenv("FAKEXEN_DIR");

	if (!dir) {
		fputs("fakexen: FAKEXEN_DIR is not set\n", stderr);
		abort();
	}
	return dir;
}

/* Writes "$FAKEXEN_DIR/<name><number>" to `path`. */
static void numbered(char path[PATH_MAX], const char *name, uint32_t number)
{
	snprintf(path, PATH_MAX, "%s/%s%u", directory(), name, number);
}

/* -------------------------------------------------------------------------------------------------- the lifeline --- */

/* Sleeps until nobody holds the other end of our standard input any more, then ends the process. A thread, because the
 * alternative, PR_SET_PDEATHSIG, follows the *thread* that started the daemon, and tests are threads. */
static void *lifeline(void *unused UNUSED)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
	kill(getpid(), SIGKILL);
	return NULL;
}

__attribute__((constructor)) static void hold_lifeline(void)
{
	sigset_t all, before;
	pthread_t thread;

	/* Signals are the daemon's: its handlers must not run on this thread (OCaml's would crash there). */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, NULL, lifeline, NULL) != 0)
		abort();
	pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --------------------------------------------------------------------------------------------- libxenctrl: domains --- */

struct domain_state {
	bool exists, shutdown, dying;
};

static struct domain_state domain_state(uint32_t domid)
{
	struct domain_state state = { .exists = domid == 0 };
	char path[PATH_MAX], word[16] = "";
	FILE *file;

	numbered(path, "dom.", domid);
	file = fopen(path, "re");
	if (!file)
		return state;
	if (fscanf(file, "%15s", word) != 1)
		strcpy(word, "running");
	fclose(file);

	state.exists = true;
	state.shutdown = strcmp(word, "shutdown") == 0;
	state.dying = strcmp(word, "dying") == 0;
	return state;
}

/* Both daemons, at start. The handle is never looked into by them. */
void *xc_interface_open(void *logger UNUSED, void *dombuild UNUSED, unsigned int flags UNUSED)
{
	static int handle;

	return &handle;
}

/* C xenstored, at exit. */
int xc_interface_close(void *handle UNUSED)
{
	return 0;
}

/* xc_dominfo_t: what libxenctrl makes of the hypervisor's answer. */
struct dominfo {
	uint32_t domid, ssidref;
	unsigned int dying : 1, crashed : 1, shutdown : 1, paused : 1, blocked : 1, running : 1;
	unsigned int hvm : 1, debugged : 1, xenstore : 1, hap : 1;
	unsigned int shutdown_reason;
	unsigned long pages[5];
	uint64_t cpu_time;
	unsigned long max_memkb;
	unsigned int nr_online_vcpus, max_vcpu_id;
	uint8_t handle[16];
	unsigned int cpupool;
	uint8_t gpaddr_bits;
	uint32_t arch_config[2];
};

/* C xenstored of 4.17: does the domain exist (XS_INTRODUCE, XS_SET_PERMS), and has it shut down or begun to die (VIRQ_DOM_EXC)?
 * It always asks for one domain and compares the number in the answer, so "the first one from here on" may be left out. */
int xc_domain_getinfo(void *handle UNUSED, uint32_t domid, unsigned int max UNUSED, struct dominfo *info)
{
	struct domain_state state = domain_state(domid);

	if (!state.exists)
		return 0;
	*info = (struct dominfo){
		.domid = domid,
		.dying = state.dying,
		.shutdown = state.shutdown,
		.running = !state.dying && !state.shutdown,
	};
	return 1;
}

/* xc_domaininfo_t, which is the hypervisor's struct xen_domctl_getdomaininfo. */
struct domaininfo {
	uint16_t domid, pad;
	uint32_t flags;
	uint64_t pages[5], shared_info_frame, cpu_time;
	uint32_t nr_online_vcpus, max_vcpu_id, ssidref;
	uint8_t handle[16];
	uint32_t cpupool;
	uint8_t gpaddr_bits, pad2[7];
	uint32_t arch_config[2];
};

_Static_assert(sizeof(struct domaininfo) == 112, "xen_domctl_getdomaininfo of Xen 4.17 and 4.20, x86-64");

enum { DOMINF_DYING = 1 << 0, DOMINF_SHUTDOWN = 1 << 2, DOMINF_RUNNING = 1 << 5 };

/* oxenstored's way to ask the same: Xenctrl.domain_getinfo, for one domain, on VIRQ_DOM_EXC. */
int xc_domain_getinfolist(void *handle UNUSED, uint32_t domid, unsigned int max UNUSED, struct domaininfo *info)
{
	struct domain_state state = domain_state(domid);

	if (!state.exists)
		return 0;
	*info = (struct domaininfo){
		.domid = (uint16_t)domid,
		.flags = state.dying ? DOMINF_DYING : state.shutdown ? DOMINF_SHUTDOWN : DOMINF_RUNNING,
	};
	return 1;
}

/* That of both daemons of 4.20. */
int xc_domain_getinfo_single(void *handle, uint32_t domid, struct domaininfo *info)
{
	struct domaininfo unwanted;

	if (xc_domain_getinfolist(handle, domid, 1, info ? info : &unwanted) == 1)
		return 0;
	errno = ESRCH;
	return -1;
}

/* oxenstored, when the answer was "no such domain": it makes the text of an exception of it. */
const void *xc_get_last_error(void *handle UNUSED)
{
	static const struct {
		int code; /* XC_ERROR_NONE: then errno is taken */
		char message[1024];
	} none;

	return &none;
}

/* ----------------------------------------------------------------------------------------- the domains' ring pages --- */

static void *map_ring(uint32_t domid)
{
	char path[PATH_MAX];
	void *page;
	int fd;

	numbered(path, "ring.", domid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED ? NULL : page;
}

/* C xenstored, at start. */
void *xengnttab_open(void *logger UNUSED, unsigned int flags UNUSED)
{
	static int handle;

	return &handle;
}

int xengnttab_close(void *handle UNUSED)
{
	return 0;
}

int xengnttab_set_max_grants(void *handle UNUSED, uint32_t count UNUSED)
{
	return 0;
}

/* C xenstored, XS_INTRODUCE: it takes the page by the grant that is reserved for xenstore. */
void *xengnttab_map_grant_ref(void *handle UNUSED, uint32_t domid, uint32_t ref UNUSED, int prot UNUSED)
{
	return map_ring(domid);
}

/* C xenstored, when a domain is gone. */
int xengnttab_unmap(void *handle UNUSED, void *page, uint32_t count)
{
	return munmap(page, (size_t)count * PAGE);
}

/* oxenstored, XS_INTRODUCE: it takes the page by its frame number. */
void *xc_map_foreign_range(void *handle UNUSED, uint32_t domid, int size UNUSED, int prot UNUSED,
			   unsigned long frame UNUSED)
{
	return map_ring(domid);
}

/* ------------------------------------------------------------------------------------ libxenevtchn: event channels --- */

static int channels = -1;

/* Both daemons, at start. One handle per process, as both have it. */
void *xenevtchn_open(void *logger UNUSED, unsigned int flags UNUSED)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/virq", directory());
	if (mkfifo(path, 0600) != 0 && errno != EEXIST)
		return NULL;
	/* Open for writing as well: so the FIFO never reports a hang-up. */
	channels = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return channels < 0 ? NULL : &channels;
}

int xenevtchn_close(void *handle UNUSED)
{
	return close(channels);
}

/* Both daemons poll it. */
int xenevtchn_fd(void *handle UNUSED)
{
	return channels;
}

/* Both daemons, at start, for VIRQ_DOM_EXC, the only one they bind. */
int xenevtchn_bind_virq(void *handle UNUSED, unsigned int virq UNUSED)
{
	return VIRQ_PORT;
}

/* Both daemons, at start for dom0 and on XS_INTRODUCE for a guest. */
int xenevtchn_bind_interdomain(void *handle UNUSED, uint32_t domid, uint32_t remote UNUSED)
{
	return (int)(FIRST_GUEST_PORT + domid);
}

/* Both daemons, after they wrote to a domain's ring. No guest listens. */
int xenevtchn_notify(void *handle UNUSED, uint32_t port UNUSED)
{
	return 0;
}

/* Both daemons, when the descriptor is readable. */
int xenevtchn_pending(void *handle UNUSED)
{
	uint32_t port;

	return read(channels, &port, sizeof(port)) == (ssize_t)sizeof(port) ? (int)port : -1;
}

int xenevtchn_unmask(void *handle UNUSED, uint32_t port UNUSED)
{
	return 0;
}

int xenevtchn_unbind(void *handle UNUSED, uint32_t port UNUSED)
{
	return 0;
}

/* --------------------------------------------------------------------------------------------------- the C library --- */

/* oxenstored raises RLIMIT_NOFILE at start and does not live without. An unprivileged container forbids it, and the
 * tests need no thousand connections. */
int setrlimit(__rlimit_resource_t resource UNUSED, const struct rlimit *limit UNUSED)
{
	return 0;
}

/* Where a file of the daemon is really kept: `path` itself, or a place in the directory, which is written to `buffer`. */
static const char *moved(const char *path, char buffer[PATH_MAX])
{
	static const struct {
		const char *from, *to;
	} places[] = {
		{ "/proc/xen/xsd_port", "/xsd_port" }, /* both, at start: dom0's event channel */
		{ "/proc/xen/xsd_kva", "/ring.0" },    /* both, at start: dom0's ring */
		{ "/var/run/xenstored", "" },          /* both: socket */
		{ "/var/run/xen", "/run" },            /* both: pid file */
		{ "/var/log/xen", "/log" },            /* oxenstored: log file */
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		size_t length = strlen(places[i].from);

		if (strncmp(path, places[i].from, length) == 0 && (path[length] == '/' || path[length] == '\0')) {
			snprintf(buffer, PATH_MAX, "%s%s%s", directory(), places[i].to, path + length);
			return buffer;
		}
	}
	return path;
}

/* The next definition of `symbol`, that is the C library's. */
static void *real(const char *symbol)
{
	void *found = dlsym(RTLD_NEXT, symbol);

	if (!found)
		abort();
	return found;
}

static int open_moved(const char *symbol, const char *path, int flags, mode_t mode)
{
	int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))real(symbol);
	char buffer[PATH_MAX];

	return real_open(moved(path, buffer), flags, mode);
}

static mode_t mode_of(int flags, va_list *arguments)
{
	return flags & (O_CREAT | O_TMPFILE) ? va_arg(*arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_of(flags, &arguments);
	va_end(arguments);
	return open_moved("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = mode_of(flags, &arguments);
	va_end(arguments);
	return open_moved("open64", path, flags, mode);
}

int mkdir(const char *path, mode_t mode)
{
	int (*real_mkdir)(const char *, mode_t) = (int (*)(const char *, mode_t))real("mkdir");
	char buffer[PATH_MAX];

	return real_mkdir(moved(path, buffer), mode);
}

/* C xenstored, on its socket. */
int chmod(const char *path, mode_t mode)
{
	int (*real_chmod)(const char *, mode_t) = (int (*)(const char *, mode_t))real("chmod");
	char buffer[PATH_MAX];

	return real_chmod(moved(path, buffer), mode);
}

int unlink(const char *path)
{
	int (*real_unlink)(const char *) = (int (*)(const char *))real("unlink");
	char buffer[PATH_MAX];

	return real_unlink(moved(path, buffer));
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	int (*real_bind)(int, const struct sockaddr *, socklen_t) =
		(int (*)(int, const struct sockaddr *, socklen_t))real("bind");
	struct sockaddr_un there = { .sun_family = AF_UNIX };
	char path[sizeof(there.sun_path) + 1] = "", buffer[PATH_MAX];
	const char *place;

	if (address->sa_family != AF_UNIX)
		return real_bind(fd, address, length);
	memcpy(path, ((const struct sockaddr_un *)address)->sun_path, length - offsetof(struct sockaddr_un, sun_path));
	place = moved(path, buffer);
	if (strlen(place) >= sizeof(there.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(there.sun_path, place);
	return real_bind(fd, (const struct sockaddr *)&there, sizeof(there));
}
