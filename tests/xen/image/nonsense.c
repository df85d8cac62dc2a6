/* A guest that means harm: writes what it likes below its own nodes of xenstore, as fast as it can, until it
 * gets SIGTERM.
 *
 *   nonsense KIND      KIND: states, paths, delete, transactions
 *
 * It speaks the wire protocol of xenstored (Xen's docs/misc/xenstore.txt) to /dev/xen/xenbus.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIRECTORY = 1, READ = 2, TX_START = 6, TX_END = 7, WRITE = 11, MKDIR = 12, RM = 13, ERROR = 16 };

struct header { uint32_t type, request, transaction, length; };

static int bus;
static unsigned long asked, refused;
static volatile sig_atomic_t over;

static void stop(int signal) { over = signal; }

static void all(ssize_t (*move)(int, void *, size_t), void *bytes, size_t length)
{
    char *at = bytes;
    while (length) {
        ssize_t moved = move(bus, at, length);
        if (moved <= 0) { perror("/dev/xen/xenbus"); exit(1); }
        at += moved;
        length -= moved;
    }
}

static ssize_t put(int fd, void *bytes, size_t length) { return write(fd, bytes, length); }

/* One request; the answer is left in `answer` and its type returned. */
static char answer[4096 + 1];
static uint32_t ask(uint32_t type, uint32_t transaction, const char *path, const char *value)
{
    char message[sizeof(struct header) + 4096];
    size_t length = strlen(path) + 1;
    memcpy(message + sizeof(struct header), path, length);
    if (value) {
        memcpy(message + sizeof(struct header) + length, value, strlen(value));
        length += strlen(value);
    }
    struct header head = { type, 0, transaction, length };
    memcpy(message, &head, sizeof head);
    all(put, message, sizeof head + length);
    all(read, &head, sizeof head);
    all(read, answer, head.length);
    answer[head.length] = 0;
    asked++;
    if (head.type == ERROR) refused++;
    return head.type;
}

int main(int argc, char **argv)
{
    if (argc != 2) return 64;
    const char *kind = argv[1];
    // What it waits for then goes on.
    struct sigaction action = { .sa_handler = stop, .sa_flags = SA_RESTART };
    sigaction(SIGTERM, &action, NULL);
    bus = open("/dev/xen/xenbus", O_RDWR);
    if (bus < 0) { perror("/dev/xen/xenbus"); return 1; }
    static const char *base = "device/vusb/0";
    static const char *states[] = { "1", "4", "6", "5", "0", "-1", "99999999999999999999", "", "x", "4" };
    char path[256], big[2000];
    memset(big, 'A', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (unsigned long n = 0; !over; n++) {
        if (!strcmp(kind, "states")) {
            snprintf(path, sizeof path, "%s/state", base);
            ask(WRITE, 0, path, states[n % (sizeof states / sizeof *states)]);
        } else if (!strcmp(kind, "paths")) {
            static const char *keys[] = { "backend", "backend-id", "urb-ring-ref", "event-channel", "port/1", "x" };
            const char *values[] = { "/local/domain/0", "/tool/pvusb-agent", "../../..", "-1", "\n\033[31m", big };
            snprintf(path, sizeof path, "%s/%s", base, keys[n % 6]);
            ask(WRITE, 0, path, values[(n / 6) % 6]);
            snprintf(path, sizeof path, "device/vusb/%lu/state", n % 50);
            ask(WRITE, 0, path, "1");
        } else if (!strcmp(kind, "delete")) {
            ask(RM, 0, base, NULL);
            ask(WRITE, 0, "device/vusb/0/state", "4");
        } else if (!strcmp(kind, "transactions")) {
            if (ask(TX_START, 0, "", NULL) != ERROR) {
                uint32_t transaction = strtoul(answer, NULL, 10);
                snprintf(path, sizeof path, "%s/state", base);
                ask(WRITE, transaction, path, "4");
                ask(WRITE, transaction, "data/noise", "1");
                ask(TX_END, transaction, "T", NULL);
            }
        } else {
            return 64;
        }
    }
    printf("GUEST nonsense asked=%lu refused=%lu\n", asked, refused);
    return 0;
}
