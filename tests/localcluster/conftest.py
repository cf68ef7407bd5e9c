"""One embedded cluster for the tests that leave nothing behind in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cluster import running_cluster_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster_sync(tmp_path_factory.mktemp("cluster")) as running:
        yield running
