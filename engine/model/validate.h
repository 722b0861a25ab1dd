/* engine/model/validate.h -- What the two files of the validation share; nobody else includes it. */
#pragma once
#include "model/model.h"

/* `invalid` at field; the message is the field and the text behind it. */
#define cp_refuse(err, field, hint, format, ...)                                                                       \
    cp_fail_at(err, CP_E_INVALID, field, hint, "%s " format, field, ##__VA_ARGS__)
bool cp_is_dns_label(const char *text);
/* The rules of one service by itself; path: "services[1]". */
int cp_service_check(const cp_service *service, const char *path, cp_error *err);
