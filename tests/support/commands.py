"""The real `bastion` command in a process of its own, with an environment made from nothing; used by tests/cli."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("bastion")
LIMIT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bastion:
    """Runs the command with a SQLite database of its own, not made yet."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees of the environment."""
        return {"BASTION_DATABASE_URL": f"sqlite:///{self.folder}/bastion.db", "PATH": "/usr/bin:/bin"}

    def run(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [PROGRAM, *arguments],
            input=stdin,
            env=self.environment | variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run it to its end, which must be a success; what it printed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout
