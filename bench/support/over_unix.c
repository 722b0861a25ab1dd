/* bench/support/over_unix.c -- Preloaded into a load generator that only knows TCP: its connections go to the unix
 * socket that OVER_UNIX names. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int socket(int domain, int type, int protocol) {
    int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    if (domain == AF_INET && (type & 0xff) == SOCK_STREAM)
        return real(AF_UNIX, type, 0);
    return real(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *address, socklen_t len) {
    int (*real)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    const char *path = getenv("OVER_UNIX");
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    if (address->sa_family != AF_INET || !path || strlen(path) >= sizeof unix_address.sun_path)
        return real(fd, address, len);
    strcpy(unix_address.sun_path, path);
    return real(fd, (struct sockaddr *)&unix_address, sizeof unix_address);
}
