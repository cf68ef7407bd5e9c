"""What every test has in common: real databases, and property tests that are not failed for a slow moment."""

from __future__ import annotations

import hypothesis

from support.databases import database_url, empty_database_url, postgresql_server

__all__ = ["database_url", "empty_database_url", "postgresql_server"]

hypothesis.settings.register_profile("bastion", deadline=None)
hypothesis.settings.load_profile("bastion")
