/* engine/model/hash.c -- SHA-256 by libcrypto. */
#include "model/hash.h"
#include "base/mem.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>

char *cp_sha256(const void *bytes, size_t len) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int done = EVP_Digest(bytes, len, digest, &size, EVP_sha256(), NULL);
    assert(done == 1 && size == 32);
    (void)done;
    char *text = cp_alloc0(2 * size + 1);
    for (unsigned i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return text;
}
