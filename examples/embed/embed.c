/* examples/embed/embed.c -- The engine inside a C program: a workload on the simulated runtime and its virtual clock.
 *   cc embed.c $(pkg-config --cflags --libs ctrlplane) && ./a.out */
#include <ctrlplane.h>

#include <stdio.h>

static int fail(const char *what, const cp_error *err) {
    fprintf(stderr, "%s: %s (%s)\n", what, cp_error_message(err), cp_code_name(cp_error_code(err)));
    return 1;
}

/* Called in a later step, once. */
static void on_scaled(void *answered, const char *json, const cp_error *err) {
    *(int *)answered = 1;
    printf("scaled: %s\n", err ? cp_error_message(err) : json);
}

static void on_event(void *userdata, const char *json, const cp_error *err) {
    (void)userdata;
    (void)err;
    if (json)
        printf("event: %s\n", json);
}

static int story(ctrlplane *plane, cp_error *err) {
    ctrlplane_events *events = NULL;
    if (ctrlplane_stream(plane, "events.stream", NULL, "{\"types\": [\"workload.*\"]}", on_event, NULL, &events, err) <
        0)
        return fail("events.stream", err);

    /* Waiting: the loop is turned until the answer is there. */
    char *json = NULL;
    int r = ctrlplane_wait(plane, "workloads.create", NULL,
                           "{\"name\": \"web\", \"replicas\": 3, \"wait\": \"1m\","
                           " \"services\": [{\"name\": \"app\", \"image\": \"app\"}]}",
                           -1, &json, err);
    if (r == 0)
        printf("created: %s\n", json);
    ctrlplane_free(json);

    /* With a loop of one's own: step when ctrlplane_fd is readable or ctrlplane_timeout has passed. */
    int answered = 0;
    if (r == 0)
        r = cp_workload_scale(plane, "web", "{\"replicas\": 5}", on_scaled, &answered, err);
    while (r == 0 && !answered)
        ctrlplane_step(plane, -1);
    if (r == 0)
        r = ctrlplane_advance(plane, 60000, err);
    ctrlplane_events_free(events);
    return r < 0 ? fail("the story", err) : 0;
}

int main(void) {
    cp_error *err = cp_error_new();
    ctrlplane *plane = NULL;
    int code = 1;
    if (ctrlplane_open("{\"store\": \":memory:\", \"provider\": \"sim\", \"clock\": \"virtual\"}", &plane, err) < 0)
        fail("open", err);
    else
        code = story(plane, err);
    ctrlplane_close(plane);
    cp_error_free(err);
    return code;
}
