"""The database: its tables, their version, and how it is opened.

Rows stay when a recipient is delivered or bounced: they answer tracking. Only bodies go.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final

DATABASE: Final = "spool.sqlite3"
VERSION: Final = 2

# Why so few indexes: each one is another page to write at every store. The recipients of a message have
# consecutive numbers (first_rid..last_rid), so that they are found by the primary key; `waiting` holds
# undelivered recipients only. The three that tracking asks by cost half of what one writer can store at most
# (measured with a million entries: 8,300/s without, 3,500/s with them), many times what the rest of a worker
# can do; without them a question reads the whole database.
_TABLES: Final = """
CREATE TABLE message (
    mid INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    icid INTEGER NOT NULL,
    queued_at REAL NOT NULL,
    size INTEGER NOT NULL,
    smtputf8 INTEGER NOT NULL,
    body_8bit INTEGER NOT NULL,
    ret TEXT NOT NULL,
    envid TEXT NOT NULL,
    received_protocol TEXT,
    received_cipher TEXT,
    in_file INTEGER NOT NULL,
    first_rid INTEGER NOT NULL,
    last_rid INTEGER NOT NULL,
    message_id TEXT NOT NULL DEFAULT '',
    client TEXT NOT NULL DEFAULT '',
    about INTEGER
) STRICT;
CREATE TABLE body (
    mid INTEGER PRIMARY KEY,
    content BLOB NOT NULL
) STRICT;
CREATE TABLE recipient (
    rid INTEGER PRIMARY KEY,
    mid INTEGER NOT NULL,
    address TEXT NOT NULL,
    domain TEXT NOT NULL,
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt REAL NOT NULL,
    outcome TEXT,
    finished_at REAL,
    host TEXT,
    protocol TEXT,
    verified INTEGER,
    reply TEXT,
    ip TEXT,
    cipher TEXT,
    matched_name TEXT,
    last_attempt REAL,
    told_delay INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX waiting ON recipient (rid) WHERE outcome IS NULL;
"""
_TRACKING_INDEXES: Final = """
CREATE INDEX by_message_id ON message (message_id);
CREATE INDEX by_sender ON message (sender COLLATE NOCASE);
CREATE INDEX by_address ON recipient (address COLLATE NOCASE);
"""
# Recipients that came from other members, by the spool and the number that they had there: sent again, they are not
# stored again. Not part of the version, so that an older program can still read the spool; empty in most.
_ADOPTED: Final = """
CREATE TABLE IF NOT EXISTS adopted (
    source TEXT NOT NULL,
    rid INTEGER NOT NULL,
    mid INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (source, rid)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS adopted_by_mid ON adopted (mid);
"""
# The highest numbers among what has been forgotten: none is used twice, or another member would take a new message that
# is handed to it for one that it has, and a log would tell two stories under one number. One row at most.
_FORGOTTEN: Final = """
CREATE TABLE IF NOT EXISTS forgotten (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    mid INTEGER NOT NULL,
    rid INTEGER NOT NULL
) STRICT;
"""
# From a version to the next one. What an older program wrote stays readable.
_UPGRADES: Final = {
    1: """
ALTER TABLE message ADD COLUMN message_id TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN client TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN about INTEGER;
ALTER TABLE recipient ADD COLUMN ip TEXT;
ALTER TABLE recipient ADD COLUMN cipher TEXT;
ALTER TABLE recipient ADD COLUMN matched_name TEXT;
ALTER TABLE recipient ADD COLUMN last_attempt REAL;
ALTER TABLE recipient ADD COLUMN told_delay INTEGER NOT NULL DEFAULT 0;
"""
    + _TRACKING_INDEXES
}
# 16 MiB of log between checkpoints: a checkpoint syncs the database file too, which all callers wait for.
_CHECKPOINT_PAGES: Final = 4096


def open_for_writing(directory: Path) -> sqlite3.Connection:
    """The one connection that writes; makes or upgrades the tables.

    Raises sqlite3.Error, and ValueError for a spool that a newer program wrote.
    """
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: every commit is synced before it returns. That is what a 250 promises (RFC 5321 section 6.1).
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        _check(version)
        if version == 0:
            _run(connection, _TABLES + _TRACKING_INDEXES, VERSION)
        for older in range(version or VERSION, VERSION):
            _run(connection, _UPGRADES[older], older + 1)
        connection.executescript(_ADOPTED + _FORGOTTEN)
    except BaseException:
        connection.close()
        raise
    sync_directory(directory)
    return connection


def _run(connection: sqlite3.Connection, statements: str, version: int) -> None:
    """All of it or nothing: a process that dies in between leaves the version before."""
    connection.executescript(f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {version}; COMMIT;")


def _check(version: int) -> None:
    if version > VERSION:
        raise ValueError(f"the spool has format {version}, this program knows {VERSION}: upgrade it first")


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """A connection for look-ups; it sees what has been committed and never waits for the writer."""
    connection = sqlite3.connect(directory / DATABASE, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def sync_directory(directory: Path) -> None:
    """Make new and removed names in `directory` survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
