/* engine/net/http.c -- HTTP client: libcurl's multi interface on the loop's events and timers.
 * libcurl would resolve names in a thread of its own, so only addresses, localhost and unix sockets are let through.
 * Nothing of the caller runs inside libcurl's callbacks: pieces and ends are collected there and handed on after. */
#include "net/http.h"
#include "base/table.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct cp_http {
    cp_loop *loop;
    CURLM *multi;
    cp_timer *timer;          /* libcurl's */
    cp_vec requests, touched; /* touched: with something to hand on */
    bool *alive;              /* while callbacks run: set to false by cp_http_free */
};

struct cp_http_request {
    cp_http *http;
    CURL *easy;
    struct curl_slist *headers;
    char *where; /* for messages */
    cp_buf body;
    size_t max_body;
    int64_t timeout;
    cp_timer *timer; /* runs on watched time: a stall of ours is not held against the other side */
    bool touched, finished, over, paused;
    bool *alive; /* while its chunk callback runs: set to false when it is freed */
    CURLcode result;
    void (*chunk)(void *userdata, const char *bytes, size_t len);
    cp_http_done *done;
    void *userdata;
};

static void touch(cp_http_request *request) {
    if (request->touched)
        return;
    request->touched = true;
    cp_vec_push(&request->http->touched, request);
}

static void request_free(cp_http_request *request) {
    cp_http *http = request->http;
    if (request->alive)
        *request->alive = false;
    cp_vec_drop(&http->requests, request);
    if (request->touched)
        cp_vec_drop(&http->touched, request);
    if (request->easy) {
        curl_multi_remove_handle(http->multi, request->easy);
        curl_easy_cleanup(request->easy);
    }
    curl_slist_free_all(request->headers);
    cp_timer_free(request->timer);
    cp_buf_clear(&request->body);
    free(request->where);
    free(request);
}

void cp_http_cancel(cp_http_request *request) {
    if (request)
        request_free(request);
}

void cp_http_pause(cp_http_request *request) {
    request->paused = true;
}

void cp_http_resume(cp_http_request *request) {
    if (!request->paused)
        return;
    request->paused = false;
    curl_easy_pause(request->easy, CURLPAUSE_CONT);
    cp_timer_start(request->http->timer, 0); /* what libcurl kept is handed on in a later turn */
}

/* What went wrong, in words; err is filled. */
static void explain(const cp_http_request *request, cp_error *err) {
    long os_error = 0;
    curl_easy_getinfo(request->easy, CURLINFO_OS_ERRNO, &os_error);
    if (request->over)
        cp_fail(err, CP_E_TOO_LARGE, "%s: the answer is over %zu bytes", request->where, request->max_body);
    else if (request->result == CURLE_COULDNT_CONNECT && os_error)
        cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "%s: %s", request->where, strerror((int)os_error));
    else if (request->result == CURLE_PARTIAL_FILE)
        cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "%s: closed in the middle of its answer", request->where);
    else if (request->result == CURLE_GOT_NOTHING)
        cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "%s: closed without an answer", request->where);
    else
        cp_fail(err, CP_E_PROVIDER_UNAVAILABLE, "%s: %s", request->where, curl_easy_strerror(request->result));
}

/* Ends the request: its answer, then it is gone. */
static void finish(cp_http_request *request, const cp_error *failure) {
    cp_http_done *done = request->done;
    void *userdata = request->userdata;
    cp_autoerror cp_error err = {0};
    cp_autobuf cp_buf body = {0};
    cp_autofree char *content_type = NULL;
    cp_http_response response = {0};
    if (failure) {
        cp_error_copy(&err, failure);
    } else if (request->result != CURLE_OK) {
        explain(request, &err);
    } else {
        const char *type = NULL;
        curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &response.status);
        curl_easy_getinfo(request->easy, CURLINFO_CONTENT_TYPE, &type);
        content_type = cp_strdup(type ? type : "");
        body = request->body;
        request->body = (cp_buf){0};
        response.body = body.data ? body.data : "";
        response.len = body.len;
        response.content_type = content_type;
    }
    request_free(request);
    done(userdata, err.code ? NULL : &response, err.code ? &err : NULL);
}

/* Hands over what has come. False when the request is gone. A callback may cancel anything, or turn the loop. */
static bool hand_on_piece(cp_http_request *request) {
    if (!request->chunk || !request->body.len)
        return true;
    bool alive = true;
    cp_autobuf cp_buf piece = request->body;
    request->body = (cp_buf){0};
    request->alive = &alive;
    request->chunk(request->userdata, piece.data, piece.len);
    if (alive)
        request->alive = NULL;
    return alive;
}

static void hand_on(cp_http *http) {
    bool alive = true, *outer = http->alive;
    http->alive = &alive;
    while (alive && http->touched.count) {
        cp_http_request *request = http->touched.items[0];
        cp_vec_remove(&http->touched, 0);
        request->touched = false;
        if (hand_on_piece(request) && request->finished)
            finish(request, NULL);
    }
    if (alive)
        http->alive = outer;
    else if (outer)
        *outer = false;
}

static void after_action(cp_http *http) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(http->multi, &left))) {
        if (message->msg != CURLMSG_DONE)
            continue;
        cp_http_request *request = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
        request->result = message->data.result;
        request->finished = true;
        touch(request);
    }
    hand_on(http);
}

static void on_socket_event(evutil_socket_t fd, short what, void *userdata) {
    cp_http *http = userdata;
    int mask = (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0), running;
    curl_multi_socket_action(http->multi, fd, mask, &running);
    after_action(http);
}

static void on_timer(void *userdata) {
    cp_http *http = userdata;
    int running;
    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    after_action(http);
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_event) {
    (void)easy;
    cp_http *http = userdata;
    struct event *event = socket_event;
    if (event)
        event_free(event);
    event = NULL;
    if (what != CURL_POLL_REMOVE) {
        short events = EV_PERSIST;
        events = (short)(events | (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
        event = event_new(cp_loop_base(http->loop), fd, events, on_socket_event, http);
        event_add(event, NULL);
    }
    curl_multi_assign(http->multi, fd, event);
    return 0;
}

static int set_timer(CURLM *multi, long ms, void *userdata) {
    (void)multi;
    cp_http *http = userdata;
    if (ms < 0)
        cp_timer_stop(http->timer);
    else
        cp_timer_start(http->timer, ms);
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *userdata) {
    cp_http_request *request = userdata;
    size_t len = size * count;
    if (request->paused)
        return CURL_WRITEFUNC_PAUSE; /* libcurl keeps the piece, and stops reading */
    if (!request->chunk && request->body.len + len > request->max_body) {
        request->over = true;
        return 0; /* libcurl ends the transfer */
    }
    cp_buf_add(&request->body, bytes, len);
    if (request->chunk)
        touch(request);
    return len;
}

static void on_timeout(void *userdata) {
    cp_http_request *request = userdata;
    cp_autoerror cp_error err = {0};
    cp_fail(&err, CP_E_TIMEOUT, "%s: no answer in %" PRId64 " ms", request->where, request->timeout);
    finish(request, &err);
}

int cp_http_new(cp_loop *loop, cp_http **ret, cp_error *err) {
    static bool ready; /* libcurl's own tables; it counts its users, we are one */
    if (!ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return cp_fail(err, CP_E_INTERNAL, "libcurl cannot be initialised");
    ready = true;
    CURLM *multi = curl_multi_init();
    if (!multi)
        return cp_fail(err, CP_E_INTERNAL, "libcurl gives no multi handle");
    cp_http *http = cp_new0(cp_http);
    *http = (cp_http){.loop = loop, .multi = multi};
    http->timer = cp_timer_new(loop, on_timer, http);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http);
    *ret = http;
    return 0;
}

cp_loop *cp_http_loop(const cp_http *http) {
    return http->loop;
}

void cp_http_free(cp_http *http) {
    if (!http)
        return;
    if (http->alive)
        *http->alive = false;
    while (http->requests.count)
        request_free(http->requests.items[http->requests.count - 1]);
    curl_multi_cleanup(http->multi); /* closes idle connections: set_socket is still called */
    cp_timer_free(http->timer);
    cp_vec_clear(&http->requests);
    cp_vec_clear(&http->touched);
    free(http);
}

/* An address or localhost: what libcurl connects to without asking a resolver. */
static bool is_address(const char *host) {
    unsigned char bytes[sizeof(struct in6_addr)];
    size_t len = strlen(host);
    if (strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, bytes) == 1)
        return true;
    if (len < 2 || host[0] != '[' || host[len - 1] != ']')
        return false;
    cp_autofree char *inner = cp_strndup(host + 1, len - 2);
    return inet_pton(AF_INET6, inner, bytes) == 1;
}

static int check_url(const cp_http_options *options, cp_error *err) {
    CURLU *url = curl_url();
    char *scheme = NULL, *host = NULL;
    int r = 0;
    if (curl_url_set(url, CURLUPART_URL, options->url, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK || strcmp(scheme, "http") != 0)
        r = cp_fail_at(err, CP_E_INVALID, "url", NULL, "'%s' is not a URL; write it like http://127.0.0.1:8080/path",
                       options->url);
    else if (!options->unix_socket && !is_address(host))
        r = cp_fail_at(err, CP_E_INVALID, "url", NULL, "'%s': host '%s' is a name; give an address or localhost",
                       options->url, host);
    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(url);
    return r;
}

static void set_body(CURL *easy, const cp_http_options *options) {
    if (!options->body && strcmp(options->method, "GET") == 0)
        return;
    if (strcmp(options->method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (options->body || strcmp(options->method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(options->body ? options->body_len : 0));
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, options->body ? options->body : "");
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method);
}

static void set_headers(cp_http_request *request, const cp_http_options *options) {
    for (const char *const *header = options->headers; header && *header; header++)
        request->headers = curl_slist_append(request->headers, *header);
    request->headers = curl_slist_append(request->headers, "Expect:"); /* no waiting for 100 Continue */
    curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
}

static void set_up(cp_http_request *request, const cp_http_options *options) {
    CURL *easy = request->easy;
    curl_easy_setopt(easy, CURLOPT_URL, options->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* nor one from the environment */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "ctrlplane");
    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    if (options->unix_socket)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, options->unix_socket);
    if (options->no_reuse) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
    set_body(easy, options);
    set_headers(request, options);
}

int cp_http_send(cp_http *http, const cp_http_options *options, cp_http_done *done, void *userdata,
                 cp_http_request **ret, cp_error *err) {
    int r = check_url(options, err);
    if (r < 0)
        return r;
    CURL *easy = curl_easy_init();
    if (!easy)
        return cp_fail(err, CP_E_INTERNAL, "libcurl gives no handle");
    cp_http_request *request = cp_new0(cp_http_request);
    *request = (cp_http_request){
        .http = http,
        .easy = easy,
        .where = options->unix_socket ? cp_strdup(options->unix_socket) : cp_strdup(options->url),
        .max_body = options->max_body,
        .timeout = options->timeout,
        .chunk = options->chunk,
        .done = done,
        .userdata = userdata,
    };
    cp_vec_push(&http->requests, request);
    set_up(request, options);
    if (options->timeout > 0) {
        request->timer = cp_timer_new(http->loop, on_timeout, request);
        cp_timer_start(request->timer, options->timeout);
    }
    curl_multi_add_handle(http->multi, easy); /* asks for a timer: nothing happens before the next turn */
    if (ret)
        *ret = request;
    return 0;
}
