"""People and their keys in SQL, as `ports.Identities` and `ports.Access`; opened by app and cli.accounts.

Every change commits together with the event that tells of it, as a link of
the chain of the process that made it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from bastion.errors import BastionError, Code
from bastion.model import Credential, Person
from bastion.store.engine import unavailable
from bastion.store.rows import storable, to_json, to_us
from bastion.store.running import running
from bastion.store.schema import credential as credential_table
from bastion.store.schema import person as person_table
from bastion.store.writer import RETRY_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection, Row, Select
    from sqlalchemy.ext.asyncio import AsyncEngine

    from bastion.records import AuditEvent
    from bastion.store.writer import Writer


class Access:
    """Implements `ports.Access` and `ports.Identities`. A locked person or key is kept, but opens nothing.

    timeout: seconds that a question may take before the answer is RECORD_UNAVAILABLE.
    """

    def __init__(self, engine: AsyncEngine, writer: Writer, *, timeout: float) -> None:
        self._engine = engine
        self._running = running(engine, writes=False)
        self._writer = writer
        self._timeout = timeout

    async def person_of(self, credential: Credential) -> Person | None:
        """The person who has that credential; None if nobody has it, or it or the person is locked.

        A database that is away is waited for: one that restarts ends no session, and keeps none from beginning.
        """
        query = (
            _people()
            .join(credential_table)
            .where(credential_table.c.id == storable(credential.id), credential_table.c.kind == credential.kind)
            .where(credential_table.c.locked_at.is_(None), person_table.c.locked_at.is_(None))
        )
        rows = await self._waited_for(query)
        return _person(rows[0]) if rows else None

    async def people(self) -> AsyncIterator[Person]:
        """Everybody, by subject; the locked among them."""
        for row in await self._all(_people().order_by(person_table.c.subject)):
            yield _person(row)

    async def keys(self) -> AsyncIterator[tuple[Person, Credential, str]]:
        """Person, credential and comment, by subject; the locked among them."""
        query = (
            _people()
            .add_columns(credential_table.c.kind, credential_table.c.id, credential_table.c.comment)
            .join(credential_table)
            .order_by(person_table.c.subject, credential_table.c.id)
        )
        for row in await self._all(query):
            yield _person(row), Credential(kind=row.kind, id=row.id), row.comment

    async def locked(self) -> frozenset[str]:
        """The subjects and the credential ids that are locked."""
        subjects = select(person_table.c.subject).where(person_table.c.locked_at.is_not(None))
        ids = select(credential_table.c.id).where(credential_table.c.locked_at.is_not(None))
        return frozenset(row[0] for row in await self._all(subjects.union_all(ids)))

    async def add_person(self, subject: str, groups: frozenset[str], told: AuditEvent) -> None:
        """Raises CONFLICT if there is one of that subject."""

        def change(connection: Connection) -> None:
            if _exists(connection, select(person_table.c.subject).where(person_table.c.subject == subject)):
                raise BastionError(Code.CONFLICT, f"There is a person {subject} already.")
            values = {"subject": subject, "groups": to_json(sorted(groups)), "added_at": to_us(told.at)}
            connection.execute(insert(person_table).values(values))

        await self._writer.change(change, told)

    async def add_key(self, subject: str, credential: Credential, comment: str, told: AuditEvent) -> None:
        """Raises NOT_FOUND for an unknown subject, CONFLICT if anybody has the key."""

        def change(connection: Connection) -> None:
            if not _exists(connection, select(person_table.c.subject).where(person_table.c.subject == subject)):
                raise _nobody(subject)
            query = select(credential_table.c.subject).where(credential_table.c.id == credential.id)
            owner = connection.execute(query).scalar()
            if owner is not None:
                raise BastionError(Code.CONFLICT, f"The key {credential.id} belongs to {owner} already.")
            values = {
                "id": credential.id,
                "kind": credential.kind,
                "subject": subject,
                "comment": storable(comment),
                "added_at": to_us(told.at),
            }
            connection.execute(insert(credential_table).values(values))

        await self._writer.change(change, told)

    async def remove_person(self, subject: str, told: AuditEvent) -> None:
        """Remove somebody and their keys; what they did stays in the record. Raises NOT_FOUND."""

        def change(connection: Connection) -> None:
            result = connection.execute(delete(person_table).where(person_table.c.subject == subject))
            if not result.rowcount:
                raise _nobody(subject)

        await self._writer.change(change, told)

    async def remove_key(self, credential: Credential, told: AuditEvent) -> None:
        """Raises NOT_FOUND if nobody has it."""

        def change(connection: Connection) -> None:
            result = connection.execute(delete(credential_table).where(credential_table.c.id == credential.id))
            if not result.rowcount:
                raise _no_key(credential)

        await self._writer.change(change, told)

    async def set_person_locked(self, subject: str, told: AuditEvent, *, locked: bool) -> None:
        """Lock somebody out, or let them in again. Raises NOT_FOUND."""

        def change(connection: Connection) -> None:
            query = update(person_table).where(person_table.c.subject == subject)
            result = connection.execute(query.values(locked_at=_locked_at(told.at, locked=locked)))
            if not result.rowcount:
                raise _nobody(subject)

        await self._writer.change(change, told)

    async def set_key_locked(self, credential: Credential, told: AuditEvent, *, locked: bool) -> None:
        """Lock one key, or unlock it. Raises NOT_FOUND if nobody has it."""

        def change(connection: Connection) -> None:
            query = update(credential_table).where(credential_table.c.id == credential.id)
            result = connection.execute(query.values(locked_at=_locked_at(told.at, locked=locked)))
            if not result.rowcount:
                raise _no_key(credential)

        await self._writer.change(change, told)

    async def _all(self, query: Any) -> list[Row[Any]]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._asked(query)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(error, self._engine) from error

    async def _waited_for(self, query: Any) -> list[Row[Any]]:
        """What the query gives, as soon as the database can say it. Raises BastionError(RECORD_UNAVAILABLE)."""
        failed: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await self._asked(query)
                    except (SQLAlchemyError, OSError) as error:
                        failed = error
                    await asyncio.sleep(RETRY_S)
        except TimeoutError as error:
            raise unavailable(failed or error, self._engine) from error

    async def _asked(self, query: Any) -> list[Row[Any]]:
        return await self._running.run(lambda connection: list(connection.execute(query).all()))

    def close(self) -> None:
        """Answer no more."""
        self._running.close()


def _people() -> Select[Any]:
    return select(person_table.c.subject, person_table.c.groups)


def _person(row: Row[Any]) -> Person:
    return Person(subject=row.subject, groups=frozenset(json.loads(row.groups)))


def _exists(connection: Connection, query: Select[Any]) -> bool:
    return connection.execute(query).first() is not None


def _locked_at(at: datetime, *, locked: bool) -> int | None:
    return to_us(at) if locked else None


def _nobody(subject: str) -> BastionError:
    return BastionError(Code.NOT_FOUND, f"There is no person {subject}: `bastion people list` names everybody.")


def _no_key(credential: Credential) -> BastionError:
    return BastionError(Code.NOT_FOUND, f"Nobody has the key {credential.id}: `bastion keys list` names them all.")
