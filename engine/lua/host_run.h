/* engine/lua/host_run.h -- The run's half of cp_script_class, for host.c. */
#pragma once
#include "script.h"

int cp_host_start(cp_scripts *scripts, const cp_strategy *strategy, const json_t *fields, const char *seed,
                  int64_t now_wall, const cp_script_callbacks *callbacks, void *userdata, cp_script_run **ret,
                  cp_error *err);
void cp_host_resume(cp_script_run *run, const json_t *result, const cp_error *err, int64_t now_wall);
int cp_host_test(cp_script_run *run, const json_t *status, cp_error *err);
void cp_host_stop(cp_script_run *run);
