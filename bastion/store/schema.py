"""The tables, the same for SQLite and PostgreSQL; used by the modules of store and by the migrations, and nowhere else.

State changes: person, credential. Evidence is insert-only, which triggers
enforce (migrations): connection, session, session_end, command, command_end,
event, transcript_chunk. Every row of evidence is a link of a hash chain
(integrity.py): the rows of a session, of that session's chain; connections and
events, of the chain of the process that wrote them.

Times are microseconds since 1970, UTC. Text that clients send as bytes is kept
as bytes. Person, namespace, pod, container and action stand in the command row too,
so that every question is answered by one index.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

REVISION = "0001"
"""The newest migration; a test compares it with the migrations folder."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Ordered by bytes on both engines, whatever the database's collation: prefixes and pages depend on it.
Key = Text().with_variant(PG_TEXT(collation="C"), "postgresql")


def _key(name: str, *more: ForeignKey, primary_key: bool = False, index: bool = False) -> Column[str]:
    return Column(name, Key, *more, nullable=False, primary_key=primary_key, index=index or None)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _link() -> tuple[Column[int], Column[bytes], Column[bytes]]:
    return (
        _number("position"),
        Column("prev_hash", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False),
    )


def _listed(table: str, time: str) -> tuple[Index, ...]:
    """What the listings need: newest first, as a whole and by person, namespace or pod; id breaks ties."""
    return (
        Index(f"ix_{table}_{time}", time, "id"),
        Index(f"ix_{table}_person", "person", time, "id"),
        Index(f"ix_{table}_namespace", "namespace", time, "id"),
        Index(f"ix_{table}_pod", "pod", time, "id"),
    )


# --- state -------------------------------------------------------------------

person = Table(
    "person",
    metadata,
    _key("subject", primary_key=True),
    _text("groups"),  # a JSON list
    _number("added_at"),
    Column("locked_at", BigInteger),
)

credential = Table(
    "credential",
    metadata,
    _key("id", primary_key=True),
    _text("kind"),
    _key("subject", ForeignKey(person.c.subject, ondelete="CASCADE"), index=True),
    _text("comment"),
    _number("added_at"),
    Column("locked_at", BigInteger),
)

# --- evidence ----------------------------------------------------------------

connection = Table(
    "connection",
    metadata,
    _key("id", primary_key=True),
    _text("person"),
    _text("credential_kind"),
    _text("credential"),
    _text("source_host"),
    Column("source_port", Integer, nullable=False),
    _text("client_version"),
    _number("opened_at"),
    _key("writer"),
    *_link(),
    Index("ix_connection_writer", "writer", "position"),
)

session = Table(
    "session",
    metadata,
    _key("id", primary_key=True),
    _key("connection", ForeignKey(connection.c.id)),
    _key("person"),
    _text("credential_kind"),
    _text("credential"),
    _text("source_host"),
    Column("source_port", Integer, nullable=False),
    _text("login"),
    _text("action"),
    _key("namespace"),
    _key("pod"),
    _text("pod_uid"),
    _text("container"),
    _text("node"),
    _text("labels"),  # a JSON object
    _text("role"),
    _text("rule"),
    _text("reason"),
    _text("policy_digest"),
    Column("term", Text),  # these three are NULL without a pty
    Column("cols", Integer),
    Column("rows", Integer),
    _text("refused_env"),  # a JSON list
    Column("record_input", Boolean, nullable=False),
    _number("started_at"),
    _key("writer"),
    _text("writer_name"),
    *_link(),
    *_listed("session", "started_at"),
    Index("ix_session_writer_name", "writer_name"),
)

session_end = Table(
    "session_end",
    metadata,
    _key("session", ForeignKey(session.c.id), primary_key=True),
    Column("status", Integer, nullable=False),
    _text("outcome"),
    _text("reason"),
    _number("bytes_in"),
    _number("bytes_out"),
    Column("complete", Boolean, nullable=False),
    _number("ended_at"),
    *_link(),
)

command = Table(
    "command",
    metadata,
    _key("id", primary_key=True),
    _key("session", ForeignKey(session.c.id)),
    _number("seq"),
    _text("kind"),
    _text("source"),
    Column("text", LargeBinary, nullable=False),
    _number("started_at"),
    _key("person"),
    _key("namespace"),
    _key("pod"),
    _text("container"),
    _text("action"),
    *_link(),
    UniqueConstraint("session", "seq"),
    *_listed("command", "started_at"),
)

command_end = Table(
    "command_end",
    metadata,
    _key("command", ForeignKey(command.c.id), primary_key=True),
    _key("session", ForeignKey(session.c.id), index=True),
    Column("status", Integer, nullable=False),
    _number("ended_at"),
    *_link(),
)

event = Table(
    "event",
    metadata,
    _key("id", primary_key=True),
    _number("at"),
    _text("type"),
    _text("outcome"),
    _text("actor"),
    _key("person"),
    _text("credential"),
    _text("source"),
    _text("connection"),
    _key("session"),
    _text("login"),
    _key("namespace"),
    _key("pod"),
    _text("container"),
    _text("action"),
    _text("rule"),
    _text("reason"),
    _text("detail"),  # a JSON object
    _key("writer"),
    *_link(),
    *_listed("event", "at"),
    Index("ix_event_session", "session"),
    Index("ix_event_writer", "writer", "position"),
)

transcript_chunk = Table(
    "transcript_chunk",
    metadata,
    _key("session", ForeignKey(session.c.id), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _number("t0_us"),
    _number("t1_us"),
    _number("raw_len"),
    _text("codec"),
    Column("data", LargeBinary, nullable=False),  # in the chain by its SHA-256
    Column("sha256", LargeBinary, nullable=False),
    *_link(),
)

SESSION_CHAIN = (session, command, command_end, transcript_chunk, session_end)
"""The tables whose rows make up a session's chain."""

WRITER_CHAIN = (connection, event)
"""The tables whose rows make up a writer's chain."""

EVIDENCE = (connection, session, command, command_end, transcript_chunk, session_end, event)
"""The insert-only tables, in the order in which rows that refer to each other can be inserted."""
