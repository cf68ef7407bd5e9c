"""Making rows into links of their chains (integrity.py); used by store.transactions and store.reader."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, union_all

from bastion.integrity import Head, Link, link_hash
from bastion.store import schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Table

    from bastion.integrity import Fact
    from bastion.store.rows import Row

_NOT_FACTS = {"position", "prev_hash", "hash", "data"}  # the chain's own, and what stands in it by digest


class Heads:
    """The ends of the chains that a writer is extending. What is not known is looked up in the database.

    After a transaction that did not (or perhaps did) commit, take a new one.
    """

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}

    def get(self, connection: Connection, table: Table, chain: str) -> Head:
        """The end of the chain that rows of this table belong to."""
        if chain not in self._heads:
            # A session's own row begins its chain: what is new needs no look-up.
            self._heads[chain] = Head() if table is schema.session else _stored_head(connection, table, chain)
        return self._heads[chain]

    def extend(self, connection: Connection, row: Row) -> dict[str, Fact]:
        """The columns of a row that is put at the end of its chain."""
        chain = chain_of(row.table, row.values)
        head = self.get(connection, row.table, chain)
        digest = link_hash(
            head.hash, chain=chain, position=head.length, kind=row.table.name, facts=facts_of(row.values)
        )
        self._heads[chain] = Head(length=head.length + 1, hash=digest)
        return {**row.values, "position": head.length, "prev_hash": head.hash, "hash": digest}

    def close(self, chain: str) -> None:
        """Forget one chain that has ended."""
        self._heads.pop(chain, None)


def chain_of(table: Table, values: Mapping[str, Any]) -> str:
    """The name of the chain a row belongs to: its session's id, or its writer's."""
    if table in schema.WRITER_CHAIN:
        return str(values["writer"])
    return str(values["id" if table is schema.session else "session"])


def facts_of(values: Mapping[str, Any]) -> dict[str, Fact]:
    """What a row says, as its link holds it."""
    return {name: value for name, value in values.items() if name not in _NOT_FACTS}


def link_of(table: Table, row: Mapping[str, Any]) -> Link:
    """A stored row as a link, its content checked against the digest that stands for it."""
    fault = ""
    if table is schema.transcript_chunk and hashlib.sha256(row["data"]).digest() != row["sha256"]:
        fault = "its bytes are not those of its SHA-256"
    return Link(
        chain=chain_of(table, row),
        position=row["position"],
        kind=table.name,
        prev_hash=row["prev_hash"],
        hash=row["hash"],
        facts=facts_of(row),
        fault=fault,
    )


def _stored_head(connection: Connection, table: Table, chain: str) -> Head:
    tables = schema.WRITER_CHAIN if table in schema.WRITER_CHAIN else schema.SESSION_CHAIN
    ends = [
        select(part.c.position, part.c.hash)
        .where(_chain_column(part) == chain)
        .order_by(part.c.position.desc())
        .limit(1)
        for part in tables
    ]
    links = union_all(*(select(end.subquery()) for end in ends)).subquery()
    last = connection.execute(select(links).order_by(links.c.position.desc()).limit(1)).first()
    return Head() if last is None else Head(length=last.position + 1, hash=last.hash)


def _chain_column(table: Table) -> Any:
    if table in schema.WRITER_CHAIN:
        return table.c.writer
    return table.c.id if table is schema.session else table.c.session
