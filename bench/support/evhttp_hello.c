/* bench/support/evhttp_hello.c -- The floor of the HTTP server: bare evhttp on a unix socket that answers "hello". */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static void hello(struct evhttp_request *request, void *userdata) {
    (void)userdata;
    struct evbuffer *body = evbuffer_new();
    evbuffer_add_printf(body, "hello\n");
    evhttp_send_reply(request, 200, "OK", body);
    evbuffer_free(body);
}

int main(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: evhttp_hello SOCKET\n");
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    signal(SIGPIPE, SIG_IGN);
    struct event_base *base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    struct evconnlistener *listener = evconnlistener_new_bind(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE, 1024,
                                                              (struct sockaddr *)&address, sizeof address);
    if (!listener || !evhttp_bind_listener(http, listener)) {
        perror(argv[1]);
        return 1;
    }
    evhttp_set_gencb(http, hello, NULL);
    event_base_dispatch(base);
    return 0;
}
