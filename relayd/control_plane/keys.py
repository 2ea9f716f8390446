"""API keys: their scopes, their making, and their proof.

A key is `rk_<id>_<secret>` with 256 random bits as secret. What is stored is its SHA-256: a slow password hash guards
secrets that can be guessed, and 256 random bits cannot, so it would only make every request slow (OWASP's advice for
API keys and session ids is the same). The id is public; it makes finding the one hash to compare with an index look-up.
"""

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import NamedTuple

_KEY = re.compile(r"rk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


LONGEST_NAME = 64
"""Characters of a key's name."""


class Scope(StrEnum):
    """What a key may do."""

    SESSIONS_READ = "sessions:read"
    SESSIONS_WRITE = "sessions:write"
    NODES_WRITE = "nodes:write"


class StoredKey(NamedTuple):
    """A key as the store has it; the key itself cannot be computed from it."""

    key_id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]
    created_at: float
    """Unix time."""
    node: str | None = None
    """The one relay that it is for; None: it is bound to none."""


def checked_name(name: str) -> str:
    """A key's name without the space around it.

    Raises:
        ValueError: it says nothing, is too long, or would garble the terminal that lists it.
    """
    name = name.strip()
    if not name:
        raise ValueError("is empty; say what the key is for")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"has {len(name)} characters; {LONGEST_NAME} are the most")
    if not name.isprintable():
        raise ValueError("has a control character; use letters, digits, spaces and signs")
    return name


def new_key(name: str, scopes: frozenset[Scope], now: float, node: str | None = None) -> tuple[str, StoredKey]:
    """A new key to show once, and what to store of it. With `node`, it is for that relay alone."""
    key_id = secrets.token_hex(6)
    key = f"rk_{key_id}_{secrets.token_urlsafe(32)}"
    return key, StoredKey(key_id, name, digest(key), scopes, now, node)


def digest(key: str) -> bytes:
    """SHA-256 of the key's UTF-8 bytes."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def key_id(key: str) -> str | None:
    """The id within a key; None for a key of another kind."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def same(key: str, stored: bytes) -> bool:
    """Whether the digest is that key's; takes equally long for every wrong key."""
    return hmac.compare_digest(digest(key), stored)


def bearer(authorization: str | None) -> str | None:
    """The key in an Authorization header: `token KEY` or `Bearer KEY`; None when there is none."""
    scheme, _, key = (authorization or "").strip().partition(" ")
    return key.strip() or None if scheme.lower() in ("token", "bearer") else None
