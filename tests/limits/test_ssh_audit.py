"""What ssh-audit, which looks at servers as a stranger does, has to say of a running bastion."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from support.trips import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.trips import Bastion


def remarks(report: Any, level: str) -> Iterator[tuple[str, str]]:
    """Every remark of a level, with the algorithm it is about."""
    for kind in ("kex", "key", "enc", "mac"):
        for algorithm in report[kind]:
            for text in algorithm.get("notes", {}).get(level, []):
                yield algorithm["algorithm"], text


def test_ssh_audit_finds_no_failure_and_no_warning_but_of_curve25519_that_old_clients_need(
    hurried_bastion: Bastion,
) -> None:
    argv = [str(BIN / "ssh-audit"), "-j", "-p", str(hurried_bastion.port), "127.0.0.1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    report = json.loads(done.stdout)

    assert report["banner"]["protocol"] == "2.0"
    assert list(remarks(report, "fail")) == []
    warnings = list(remarks(report, "warn"))
    assert {algorithm for algorithm, _ in warnings} == {"curve25519-sha256", "curve25519-sha256@libssh.org"}
    assert all("post-quantum" in text for _, text in warnings)
    assert report["cves"] == []
    assert report["additional_notes"] == []  # there it warns if many connections a second are let in (DHEat)
    assert report["compression"] == ["none"]
    assert {key["hostkey"] for key in report["fingerprints"]} == {"ssh-ed25519"}
