"""Cipher lists, judged as OpenSSL will read them: one that names no cipher would have members refuse all that is new.

Pure: nothing is opened. Called by `listeners` and `destinations`.
"""

from functools import lru_cache

from OpenSSL import SSL


@lru_cache(1024)
def problem(wanted: str | None) -> str:
    """Why `wanted`, an OpenSSL cipher list, cannot be used, for people; empty: it can, or there is none."""
    if not wanted:
        return ""
    try:
        SSL.Context(SSL.TLS_METHOD).set_cipher_list(wanted.encode())
    except SSL.Error:
        return f"ciphers {wanted!r} names no cipher that OpenSSL knows: `openssl ciphers` lists them"
    return ""
