"""How Alembic runs the migrations: on the connection that bastion.store.migrate hands it."""  # noqa: INP001 - Alembic loads this folder by path

from __future__ import annotations

from alembic import context

from bastion.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
