/* engine/base/text.c -- Durations, shares and times as people write them; UTF-8. Pure: no locale, no clock. */
#include "base/desc.h"
#include "base/limits.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Digits with an optional fraction; strtod would follow the locale and take "inf" and "0x1p3". Returns the end, or
 * NULL when there is no digit. */
static const char *read_number(const char *text, double *ret) {
    const char *c = text;
    double value = 0, scale = 1;
    for (; isdigit((unsigned char)*c); c++)
        value = value * 10 + (*c - '0');
    if (c == text)
        return NULL;
    if (*c == '.' && isdigit((unsigned char)c[1]))
        for (c++; isdigit((unsigned char)*c); c++) {
            value = value * 10 + (*c - '0');
            scale *= 10;
        }
    if (!isfinite(value) || !isfinite(scale)) /* hundreds of digits */
        return NULL;
    *ret = value / scale;
    return c;
}

int cp_duration_parse(const char *text, int64_t *ret_ms, cp_error *err) {
    static const struct {
        const char *name;
        double ms;
    } UNITS[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    const char *c = text;
    double total = 0;
    size_t next = 0; /* units go from large to small, each once */
    do {
        double count = 0;
        c = read_number(c, &count);
        if (!c)
            break;
        size_t len = 0, unit = next;
        while (isalpha((unsigned char)c[len]))
            len++;
        if (len == 0 && *c == '\0' && next == 0) { /* a bare number */
            total = count * 1000;
            break;
        }
        while (unit < CP_COUNT(UNITS) && (strlen(UNITS[unit].name) != len || strncmp(UNITS[unit].name, c, len) != 0))
            unit++;
        if (unit == CP_COUNT(UNITS)) {
            c = NULL;
            break;
        }
        total += count * UNITS[unit].ms;
        next = unit + 1;
        c += len;
    } while (*c);
    if (!c)
        return cp_fail_at(err, CP_E_INVALID, NULL, "write it like 250ms, 30s or 1h30m", "'%.80s' is not a duration",
                          text);
    if (!(total <= (double)CP_MAX_DURATION_MS))
        return cp_fail(err, CP_E_INVALID, "'%.80s' is too long a duration; at most ten years", text);
    *ret_ms = llround(total);
    return 0;
}

int cp_share_parse(const char *text, cp_share *ret, cp_error *err) {
    double value = 0;
    const char *end = read_number(text, &value);
    bool percent = end && *end == '%';
    if (percent)
        end++;
    if (!end || *end)
        return cp_fail_at(err, CP_E_INVALID, NULL, "write a count like 3 or a percentage like \"25%\"",
                          "'%.80s' is not a share", text);
    if (percent && value > 100)
        return cp_fail(err, CP_E_INVALID, "'%.80s' is more than 100%%", text);
    if (!percent && value != floor(value))
        return cp_fail_at(err, CP_E_INVALID, NULL, "for a percentage add the sign, as in \"25%\"",
                          "'%.80s' is not a whole number of replicas", text);
    if (value > CP_MAX_REPLICAS)
        return cp_fail(err, CP_E_INVALID, "'%.80s' is more than %d replicas", text, CP_MAX_REPLICAS);
    *ret = (cp_share){.set = true, .percent = percent, .value = value};
    return 0;
}

int64_t cp_share_resolve(cp_share share, int64_t total, bool round_up) {
    if (!share.set || !(share.value > 0))
        return 0;
    if (!share.percent)
        return (int64_t)share.value;
    double exact = share.value * (double)total / 100;
    /* 33.3% of 1000 is 333, although the product is a hair off. */
    return (int64_t)(round_up ? ceil(exact - 1e-9) : floor(exact + 1e-9));
}

void cp_time_format(int64_t ms, char out[32]) {
    time_t seconds = (time_t)(ms / 1000);
    int rest = (int)(ms % 1000);
    if (rest < 0) {
        rest += 1000;
        seconds--;
    }
    struct tm utc = {0};
    gmtime_r(&seconds, &utc);
    size_t len = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + len, 32 - len, ".%03dZ", rest);
}

/* Exactly `count` digits, within low..high. Returns the end or NULL. */
static const char *read_digits(const char *c, int count, int low, int high, int *ret) {
    int value = 0;
    for (int i = 0; i < count; i++, c++) {
        if (!isdigit((unsigned char)*c))
            return NULL;
        value = value * 10 + (*c - '0');
    }
    if (value < low || value > high)
        return NULL;
    *ret = value;
    return c;
}

static const char *read_mark(const char *c, const char *marks) {
    return c && *c && strchr(marks, *c) ? c + 1 : NULL;
}

/* Z or +HH:MM; minutes east of Greenwich. */
static const char *read_zone(const char *c, int *ret_minutes) {
    if (!c)
        return NULL;
    if (*c == 'Z' || *c == 'z') {
        *ret_minutes = 0;
        return c + 1;
    }
    int sign = *c == '-' ? -1 : 1, hours = 0, minutes = 0;
    c = read_mark(c, "+-");
    c = c ? read_digits(c, 2, 0, 23, &hours) : NULL;
    c = read_mark(c, ":");
    c = c ? read_digits(c, 2, 0, 59, &minutes) : NULL;
    *ret_minutes = sign * (hours * 60 + minutes);
    return c;
}

int cp_time_parse(const char *text, int64_t *ret_ms, cp_error *err) {
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, zone = 0, ms = 0;
    const char *c = read_digits(text, 4, 1970, 9999, &year);
    c = read_mark(c, "-");
    c = c ? read_digits(c, 2, 1, 12, &month) : NULL;
    c = read_mark(c, "-");
    c = c ? read_digits(c, 2, 1, 31, &day) : NULL;
    c = read_mark(c, "Tt ");
    c = c ? read_digits(c, 2, 0, 23, &hour) : NULL;
    c = read_mark(c, ":");
    c = c ? read_digits(c, 2, 0, 59, &minute) : NULL;
    c = read_mark(c, ":");
    c = c ? read_digits(c, 2, 0, 60, &second) : NULL; /* 60: a leap second is the next second */
    if (c && *c == '.') {
        c++;
        int scale = 100;
        const char *first = c;
        for (; isdigit((unsigned char)*c); c++, scale /= 10)
            ms += (*c - '0') * scale;
        c = c == first ? NULL : c;
    }
    c = read_zone(c, &zone);
    struct tm utc = {.tm_year = year - 1900,
                     .tm_mon = month - 1,
                     .tm_mday = day,
                     .tm_hour = hour,
                     .tm_min = minute,
                     .tm_sec = second};
    time_t seconds = c ? timegm(&utc) : 0;
    if (!c || *c || (utc.tm_mday != day && second < 60)) /* timegm turned 30 February into March */
        return cp_fail_at(err, CP_E_INVALID, NULL, "write it like 2026-01-31T12:00:00.123Z", "'%.80s' is not a time",
                          text);
    *ret_ms = ((int64_t)seconds - zone * 60) * 1000 + ms;
    return 0;
}

bool cp_utf8_valid(const char *text, size_t len) {
    const unsigned char *c = (const unsigned char *)text, *end = c + len;
    while (c < end) {
        if (*c < 0x80) {
            c++;
            continue;
        }
        size_t more = *c >= 0xf0 ? 3 : *c >= 0xe0 ? 2 : 1;
        if (*c < 0xc2 || *c > 0xf4 || (size_t)(end - c) <= more)
            return false; /* a stray tail, an overlong form, beyond U+10FFFF, or cut off */
        if ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f) || (*c == 0xf0 && c[1] < 0x90) ||
            (*c == 0xf4 && c[1] > 0x8f))
            return false; /* overlong, a surrogate, or beyond U+10FFFF */
        for (size_t i = 1; i <= more; i++)
            if ((c[i] & 0xc0) != 0x80)
                return false;
        c += more + 1;
    }
    return true;
}
