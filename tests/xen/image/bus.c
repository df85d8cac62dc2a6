/* Tells what a guest sees of its USB bus, at its start and whenever that changes (guest-init has the form).
 * It sleeps in between, because all guests and dom0 share one emulated processor.
 */
#include <dirent.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An attribute of a device, without the end of its line; empty if there is none. */
static const char *attribute(const char *device, const char *name)
{
    static char values[4][64];
    static int turn;
    char path[512], *value = values[turn++ % 4];
    *value = 0;
    snprintf(path, sizeof path, "/sys/bus/usb/devices/%s/%s", device, name);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fgets(value, sizeof values[0], file)) value[strcspn(value, "\n")] = 0;
        fclose(file);
    }
    return value;
}

static int is_device(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && strncmp(entry->d_name, "usb", 3) && !strchr(entry->d_name, ':');
}

/* All devices but the bus itself: busid=id:serial:speed, and a space after each. */
static void look(char *seen, size_t room)
{
    struct dirent **entries;
    int count = scandir("/sys/bus/usb/devices", &entries, is_device, alphasort);
    *seen = 0;
    for (int at = 0; at < count; at++) {
        const char *name = entries[at]->d_name, *vendor = attribute(name, "idVendor");
        size_t used = strlen(seen);
        if (*vendor)
            snprintf(seen + used, room - used, "%s=%s:%s:%s:%s ", name, vendor, attribute(name, "idProduct"),
                     attribute(name, "serial"), attribute(name, "speed"));
    }
}

int main(void)
{
    static char old[4096] = "?", seen[4096], line[4200], event[8192];
    struct sockaddr_nl all = { .nl_family = AF_NETLINK, .nl_groups = 1 };
    int events = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT);
    if (events < 0 || bind(events, (struct sockaddr *)&all, sizeof all)) { perror("uevents"); return 1; }
    for (unsigned number = 0;;) {
        look(seen, sizeof seen);
        if (strcmp(seen, old)) {
            strcpy(old, seen);
            int length = snprintf(line, sizeof line, "GUEST usb %u %s\n", ++number, seen);
            if (write(1, line, length) != length) return 1;
        }
        /* One that is lost because there were too many is an error here, and as good as any. */
        recv(events, event, sizeof event, 0);
    }
}
