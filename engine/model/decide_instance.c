/* engine/model/decide_instance.c -- One instance: what it is wanted to be and what its provider last saw give the next
 * operation and the next state. Pure. Must not know other instances, retries or time.
 * What has not been seen is not acted upon, but for the first provision and the first deprovision: both are keyed by
 * instance and generation, so a provider that has them already does nothing again. */
#include "model/decide.h"

static void say(cp_instance_decision *decision, int op, int state, const char *message) {
    decision->op = op;
    decision->state = state;
    cp_set_string(&decision->message, message);
}

static const char *why(const cp_instance_input *input, const char *otherwise) {
    return cp_is_empty(input->message) ? otherwise : input->message;
}

static void destroy(const cp_instance_input *input, cp_instance_decision *decision) {
    if (input->state != CP_INSTANCE_DESTROYING)
        say(decision, CP_OP_DEPROVISION, CP_INSTANCE_DESTROYING, NULL);
    else if (input->seen == CP_SEEN_ABSENT)
        say(decision, CP_OP_NONE, CP_INSTANCE_DESTROYED, NULL);
    else
        say(decision, input->seen == CP_SEEN_UNKNOWN ? CP_OP_NONE : CP_OP_DEPROVISION, CP_INSTANCE_DESTROYING,
            input->message);
}

/* What runs is of an older generation: another release comes in place, the same one is started anew. */
static int renew(const cp_instance_input *input) {
    if (input->seen_generation >= input->generation)
        return CP_OP_NONE;
    return cp_streq(input->release_id, input->seen_release_id) ? CP_OP_RESTART : CP_OP_UPDATE;
}

/* Wanted running, and not going away on its own account. */
static void run(const cp_instance_input *input, cp_instance_decision *decision) {
    int state = input->state;
    switch (input->seen) {
    case CP_SEEN_UNKNOWN:
        if (state == CP_INSTANCE_PROVISIONING && input->applied_generation == 0)
            say(decision, CP_OP_PROVISION, state, input->message);
        else
            say(decision, CP_OP_NONE, state, input->message);
        return;
    case CP_SEEN_ABSENT: /* never made, or taken away behind our back: made again under the same id */
        if (state == CP_INSTANCE_RUNNING)
            say(decision, CP_OP_NONE, CP_INSTANCE_STOPPED, "it vanished; it is made again");
        else
            say(decision, CP_OP_PROVISION, state == CP_INSTANCE_STOPPED ? CP_INSTANCE_STARTING : state, input->message);
        return;
    case CP_SEEN_LOST: /* the runtime went away under it, as in a reboot: not its failure */
        if (state == CP_INSTANCE_RUNNING)
            say(decision, CP_OP_NONE, CP_INSTANCE_STOPPED, "its runtime went away; it is started again");
        else
            say(decision, CP_OP_START, CP_INSTANCE_STARTING, input->message);
        return;
    case CP_SEEN_STARTING:
    case CP_SEEN_RUNNING:
        if (state == CP_INSTANCE_PROVISIONING || state == CP_INSTANCE_STOPPED)
            say(decision, CP_OP_NONE, CP_INSTANCE_STARTING, input->message);
        else if (state == CP_INSTANCE_STARTING && input->seen == CP_SEEN_RUNNING)
            say(decision, renew(input), CP_INSTANCE_RUNNING, input->message);
        else /* running in back-off stays running, with a message */
            say(decision, renew(input), state, input->message);
        return;
    case CP_SEEN_STOPPED: /* it ended by itself: only a newer generation starts it again */
        if (state == CP_INSTANCE_RUNNING)
            say(decision, CP_OP_NONE, CP_INSTANCE_STOPPED, why(input, "it ended"));
        else if (input->seen_generation < input->generation)
            say(decision, renew(input), CP_INSTANCE_STARTING, input->message);
        else if (state == CP_INSTANCE_STOPPED)
            say(decision, CP_OP_NONE, state, why(input, "it ended"));
        else if (input->applied_generation < input->generation) /* made, not yet started */
            say(decision, CP_OP_START, CP_INSTANCE_STARTING, input->message);
        else /* it ended before anybody saw it run */
            say(decision, CP_OP_NONE, state == CP_INSTANCE_PROVISIONING ? CP_INSTANCE_STARTING : CP_INSTANCE_RUNNING,
                why(input, "it ended"));
        return;
    default: /* failed */
        if (state == CP_INSTANCE_STOPPED)
            say(decision, CP_OP_NONE, CP_INSTANCE_STARTING, input->message);
        else
            say(decision, CP_OP_NONE, CP_INSTANCE_FAILED, why(input, "it gave up"));
        return;
    }
}

/* Wanted stopped, or on the way there. */
static void stop(const cp_instance_input *input, cp_instance_decision *decision) {
    bool up = input->seen == CP_SEEN_STARTING || input->seen == CP_SEEN_RUNNING;
    switch (input->state) {
    case CP_INSTANCE_PROVISIONING: /* what was begun is taken to where it can be stopped */
        say(decision, CP_OP_NONE, up ? CP_INSTANCE_STARTING : CP_INSTANCE_PROVISIONING, input->message);
        return;
    case CP_INSTANCE_STARTING:
    case CP_INSTANCE_RUNNING:
        say(decision, CP_OP_STOP, CP_INSTANCE_STOPPING, input->message);
        return;
    case CP_INSTANCE_STOPPING:
        if (input->seen == CP_SEEN_UNKNOWN || up)
            say(decision, up ? CP_OP_STOP : CP_OP_NONE, CP_INSTANCE_STOPPING, input->message);
        else if (input->seen == CP_SEEN_FAILED)
            say(decision, CP_OP_NONE, CP_INSTANCE_FAILED, why(input, "it gave up"));
        else
            say(decision, CP_OP_NONE, CP_INSTANCE_STOPPED, input->message);
        return;
    default: /* stopped: what runs all the same is stopped again */
        say(decision, up ? CP_OP_STOP : CP_OP_NONE, input->state, input->message);
        return;
    }
}

void cp_decide_instance(const cp_instance_input *input, cp_instance_decision *decision) {
    switch (input->state) {
    case CP_INSTANCE_DESTROYED:
        say(decision, CP_OP_NONE, input->state, input->message);
        return;
    case CP_INSTANCE_DESTROYING: /* there is no way back */
        destroy(input, decision);
        return;
    case CP_INSTANCE_FAILED:
        if (input->desired == CP_DESIRED_DESTROYED)
            destroy(input, decision);
        else /* it stays for people to see; who wants it replaced lets it go */
            say(decision, CP_OP_NONE, input->state, input->message);
        return;
    default:
        if (input->desired == CP_DESIRED_DESTROYED)
            destroy(input, decision);
        else if (input->desired == CP_DESIRED_STOPPED || input->state == CP_INSTANCE_STOPPING)
            stop(input, decision);
        else
            run(input, decision);
        return;
    }
}
