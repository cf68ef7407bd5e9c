"""The databases that the audit commands are tested on."""

from __future__ import annotations

from support.databases import database_url, empty_database_url, postgresql_server

__all__ = ["database_url", "empty_database_url", "postgresql_server"]
