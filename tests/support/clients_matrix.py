"""Every client that is tested, and which of them can do what; parametrises tests/clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.clients_asyncssh import AsyncSsh
from support.clients_libssh2 import Libssh2
from support.clients_paramiko import Paramiko
from support.clients_programs import Dbclient, OpenSsh, Plink

if TYPE_CHECKING:
    from support.clients import Client, Feature

PROGRAMS = (OpenSsh(), Plink(), Dbclient())
CLIENTS: tuple[Client, ...] = (*PROGRAMS, Paramiko(), Libssh2(), AsyncSsh())


def able(feature: Feature) -> list[Client]:
    """The clients that have a feature."""
    return [client for client in CLIENTS if feature not in client.lacks]
