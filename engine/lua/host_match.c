/* engine/lua/host_match.c -- Lua patterns with their steps counted: a pattern that backtracks for ever ends the script
 * instead of the engine. Same language as Lua 5.1 (with %f and %g). Knows strings; must not know rollouts. */
#include "lua/host.h"

#include <ctype.h>
#include <string.h>

#define MAX_CAPTURES 32
#define MAX_NESTING 200
#define OPEN (-1)     /* a capture that is not closed yet */
#define POSITION (-2) /* "()": the position, not a text */

typedef struct matcher {
    lua_State *L;
    const char *text, *text_end, *pattern_end;
    int count, nesting;
    int64_t steps;
    struct {
        const char *at;
        ptrdiff_t len; /* or OPEN, POSITION */
    } captures[MAX_CAPTURES];
} matcher;

static const char *match(matcher *m, const char *s, const char *p);

static void step(matcher *m) {
    if (++m->steps > CP_SANDBOX_UNBROKEN)
        cp_sandbox_unbroken(m->L, m->steps);
}

/* Behind one single-character item of the pattern: "a", ".", "%d", "[set]". */
static const char *item_end(matcher *m, const char *p) {
    char c = *p++;
    if (c == '%') {
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (c != '[')
        return p;
    if (p < m->pattern_end && *p == '^')
        p++;
    bool first = true; /* "[]]": a bracket that comes first is itself */
    for (;; first = false) {
        step(m);
        if (p >= m->pattern_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p == ']' && !first)
            return p + 1;
        if (*p++ == '%') {
            if (p >= m->pattern_end)
                luaL_error(m->L, "malformed pattern (missing ']')");
            p++;
        }
    }
}

static bool in_class(int c, int class) {
    bool in;
    switch (tolower(class)) {
    case 'a':
        in = isalpha(c);
        break;
    case 'c':
        in = iscntrl(c);
        break;
    case 'd':
        in = isdigit(c);
        break;
    case 'g':
        in = isgraph(c);
        break;
    case 'l':
        in = islower(c);
        break;
    case 'p':
        in = ispunct(c);
        break;
    case 's':
        in = isspace(c);
        break;
    case 'u':
        in = isupper(c);
        break;
    case 'w':
        in = isalnum(c);
        break;
    case 'x':
        in = isxdigit(c);
        break;
    case 'z':
        in = c == 0;
        break;
    default:
        return class == c;
    }
    return isupper(class) ? !in : in;
}

/* p: behind '['; end: at the closing ']'. */
static bool in_set(matcher *m, int c, const char *p, const char *end) {
    bool wanted = true;
    if (*p == '^') {
        wanted = false;
        p++;
    }
    for (; p < end; p++) {
        step(m);
        if (*p == '%') {
            if (in_class(c, (unsigned char)*++p))
                return wanted;
        } else if (p + 2 < end && p[1] == '-') {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return wanted;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return wanted;
        }
    }
    return !wanted;
}

static bool fits(matcher *m, const char *s, const char *p, const char *end) {
    step(m);
    if (s >= m->text_end)
        return false;
    int c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(m, c, p + 1, end - 1);
    default:
        return (unsigned char)*p == c;
    }
}

static const char *match_balanced(matcher *m, const char *s, const char *p) {
    if (p + 1 >= m->pattern_end)
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= m->text_end || *s != p[0])
        return NULL;
    int open = 1;
    while (++s < m->text_end) {
        step(m);
        if (*s == p[1]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

/* "x*" and "x+": as many as there are, then fewer until the rest fits. */
static const char *match_most(matcher *m, const char *s, const char *p, const char *end, ptrdiff_t least) {
    ptrdiff_t n = 0;
    while (fits(m, s + n, p, end))
        n++;
    for (; n >= least; n--) {
        const char *found = match(m, s + n, end + 1);
        if (found)
            return found;
    }
    return NULL;
}

static const char *match_least(matcher *m, const char *s, const char *p, const char *end) {
    for (;; s++) {
        const char *found = match(m, s, end + 1);
        if (found || !fits(m, s, p, end))
            return found;
    }
}

static const char *match_capture(matcher *m, const char *s, const char *p, ptrdiff_t kind) {
    if (m->count >= MAX_CAPTURES)
        luaL_error(m->L, "too many captures in the pattern");
    m->captures[m->count].at = s;
    m->captures[m->count].len = kind;
    m->count++;
    const char *found = match(m, s, p);
    if (!found)
        m->count--;
    return found;
}

static const char *match_close(matcher *m, const char *s, const char *p) {
    int i = m->count;
    while (--i >= 0 && m->captures[i].len != OPEN)
        ;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].at;
    const char *found = match(m, s, p);
    if (!found)
        m->captures[i].len = OPEN;
    return found;
}

static const char *match_back(matcher *m, const char *s, int digit) {
    int i = digit - '1';
    if (i < 0 || i >= m->count || m->captures[i].len == OPEN)
        luaL_error(m->L, "invalid capture index");
    ptrdiff_t len = m->captures[i].len == POSITION ? 0 : m->captures[i].len;
    m->steps += len / 16;
    step(m);
    return m->text_end - s >= len && memcmp(m->captures[i].at, s, (size_t)len) == 0 ? s + len : NULL;
}

static bool match_frontier(matcher *m, const char *s, const char *p, const char *end) {
    if (p >= m->pattern_end || *p != '[')
        luaL_error(m->L, "missing '[' after '%%f' in pattern");
    int before = s == m->text ? 0 : (unsigned char)s[-1], here = s < m->text_end ? (unsigned char)*s : 0;
    return !in_set(m, before, p + 1, end - 1) && in_set(m, here, p + 1, end - 1);
}

/* Where the match of p at s ends, NULL when there is none. */
static const char *match_here(matcher *m, const char *s, const char *p) {
    for (;;) {
        step(m);
        if (p == m->pattern_end)
            return s;
        if (*p == '(')
            return p + 1 < m->pattern_end && p[1] == ')' ? match_capture(m, s, p + 2, POSITION)
                                                         : match_capture(m, s, p + 1, OPEN);
        if (*p == ')')
            return match_close(m, s, p + 1);
        if (*p == '$' && p + 1 == m->pattern_end)
            return s == m->text_end ? s : NULL;
        if (*p == '%' && p + 1 < m->pattern_end) {
            if (p[1] == 'b') {
                if (!(s = match_balanced(m, s, p + 2)))
                    return NULL;
                p += 4;
                continue;
            }
            if (p[1] == 'f') {
                const char *end = p + 2 < m->pattern_end && p[2] == '[' ? item_end(m, p + 2) : p + 2;
                if (!match_frontier(m, s, p + 2, end))
                    return NULL;
                p = end;
                continue;
            }
            if (isdigit((unsigned char)p[1])) {
                if (!(s = match_back(m, s, p[1])))
                    return NULL;
                p += 2;
                continue;
            }
        }
        const char *end = item_end(m, p);
        char suffix = '\0';
        if (end < m->pattern_end)
            suffix = *end;
        if (suffix == '*')
            return match_most(m, s, p, end, 0);
        if (suffix == '+')
            return match_most(m, s, p, end, 1);
        if (suffix == '-')
            return match_least(m, s, p, end);
        bool here = fits(m, s, p, end);
        if (suffix == '?') {
            const char *found = here ? match(m, s + 1, end + 1) : NULL;
            if (found)
                return found;
            p = end + 1;
            continue;
        }
        if (!here)
            return NULL;
        s++;
        p = end;
    }
}

static const char *match(matcher *m, const char *s, const char *p) {
    if (++m->nesting > MAX_NESTING)
        luaL_error(m->L, "pattern too complex");
    const char *found = match_here(m, s, p);
    m->nesting--;
    return found;
}

static void push_capture(matcher *m, int i, const char *start, const char *end) {
    if (i >= m->count)
        lua_pushlstring(m->L, start, (size_t)(end - start));
    else if (m->captures[i].len == POSITION)
        lua_pushinteger(m->L, m->captures[i].at - m->text + 1);
    else if (m->captures[i].len == OPEN)
        luaL_error(m->L, "unfinished capture");
    else
        lua_pushlstring(m->L, m->captures[i].at, (size_t)m->captures[i].len);
}

/* Pushes the captures; with `whole` the match itself stands for them when there is none. */
static int push_captures(matcher *m, const char *start, const char *end, bool whole) {
    int count = m->count == 0 && whole ? 1 : m->count;
    luaL_checkstack(m->L, count + 2, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(m, i, start, end);
    return count;
}

static const char *find_plain(matcher *m, const char *s, const char *needle, size_t len) {
    const char *found = memmem(s, (size_t)(m->text_end - s), needle, len);
    cp_sandbox_charge(m->L, ((found ? found : m->text_end) - s) / 16 + (int64_t)len / 16);
    return found;
}

/* The first match at or behind *start, which is moved there. NULL: none. */
static const char *search(matcher *m, const char **start, const char *pattern, bool anchored) {
    for (const char *s = *start;; s++) {
        m->count = 0;
        m->nesting = 0;
        const char *end = match(m, s, pattern);
        if (end) {
            *start = s;
            return end;
        }
        if (anchored || s >= m->text_end)
            return NULL;
    }
}

/* Arguments (text, pattern, init). False when init is behind the end; start is at the end then. */
static bool read_arguments(lua_State *L, matcher *m, const char **pattern, const char **start) {
    size_t len, pattern_len;
    m->L = L;
    m->text = luaL_checklstring(L, 1, &len);
    m->text_end = m->text + len;
    *pattern = luaL_checklstring(L, 2, &pattern_len);
    m->pattern_end = *pattern + pattern_len;
    ptrdiff_t init = luaL_optinteger(L, 3, 1);
    if (init < 0)
        init = (ptrdiff_t)len + init + 1 > 0 ? (ptrdiff_t)len + init + 1 : 1;
    else if (init == 0)
        init = 1;
    bool inside = init <= (ptrdiff_t)len + 1;
    *start = inside ? m->text + init - 1 : m->text_end;
    return inside;
}

static bool is_plain(const char *pattern, const char *end) {
    for (; pattern < end; pattern++)
        if (strchr("^$*+?.([%-", *pattern) && *pattern)
            return false;
    return true;
}

/* find(text, pattern, init?, plain?) */
static int string_find(lua_State *L) {
    matcher m = {0};
    const char *pattern, *start;
    read_arguments(L, &m, &pattern, &start);
    if (lua_toboolean(L, 4) || is_plain(pattern, m.pattern_end)) {
        size_t len = (size_t)(m.pattern_end - pattern);
        const char *found = find_plain(&m, start, pattern, len);
        if (!found) {
            lua_pushnil(L);
            return 1;
        }
        lua_pushinteger(L, found - m.text + 1);
        lua_pushinteger(L, found - m.text + (ptrdiff_t)len);
        return 2;
    }
    bool anchored = *pattern == '^';
    const char *end = search(&m, &start, pattern + anchored, anchored);
    cp_sandbox_unbroken(L, m.steps);
    if (!end) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, start - m.text + 1);
    lua_pushinteger(L, end - m.text);
    return 2 + push_captures(&m, start, end, false);
}

/* match(text, pattern, init?) */
static int string_match(lua_State *L) {
    matcher m = {0};
    const char *pattern, *start;
    read_arguments(L, &m, &pattern, &start);
    bool anchored = pattern < m.pattern_end && *pattern == '^';
    const char *end = search(&m, &start, pattern + anchored, anchored);
    cp_sandbox_unbroken(L, m.steps);
    if (!end) {
        lua_pushnil(L);
        return 1;
    }
    return push_captures(&m, start, end, true);
}

/* search(text, pattern, init, anchored) -> first, last, captures... | nil: what gmatch and gsub are built on, in Lua so
 * that their callbacks can suspend. With anchored a leading '^' is an anchor, else a character. */
static int raw_search(lua_State *L) {
    matcher m = {0};
    const char *pattern, *start, *end = NULL;
    bool anchored = lua_toboolean(L, 4);
    if (read_arguments(L, &m, &pattern, &start)) {
        anchored = anchored && pattern < m.pattern_end && *pattern == '^';
        end = search(&m, &start, pattern + anchored, anchored);
    }
    cp_sandbox_unbroken(L, m.steps + 1);
    if (!end) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, start - m.text + 1);
    lua_pushinteger(L, end - m.text);
    return 2 + push_captures(&m, start, end, true);
}

void cp_sandbox_open_match(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"find", string_find}, {"match", string_match}, {"search", raw_search}, {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
}
