"""What a container finds: its home, its programs and its environment; used by runtime and containers.

There is no file system of its own. PATH decides what exists, and `resolve` gives the answers a container runtime
would give about absolute paths.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bastion.localcluster import podserver

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SH_TOOLS = """
[ awk base64 basename cat chgrp chmod chown cksum cmp comm cp cut date dd df diff dirname du echo env expr false
find fold getopt grep egrep fgrep gunzip gzip head id join kill link ln ls md5sum mkdir mkfifo mknod mktemp mv nice
nohup nproc od paste ps pgrep pkill printenv printf pwd readlink realpath rm rmdir sed seq setsid sh sha1sum
sha256sum sha512sum sleep sort split stat stty sync tac tail tar tee test timeout touch tr true truncate tty uname
uniq unlink uptime vi wc which whoami xargs xxd yes zcat
"""

_APP = """\
#!/bin/sh
case ${1-} in
--cat) exec /bin/cat ;;
--wait) exec /bin/sleep infinity ;;
--exit) exit "$2" ;;
esac
for argument in "$@"; do printf '%s\\n' "$argument"; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What containers of an image can run.

    system: the programs of this machine are seen. links: those of them, by name, that are seen alone.
    scripts: programs of its own. shell: it has one. main: what its containers run if their spec does not say.
    ports: those on which that main process serves.
    """

    system: bool = False
    links: str = ""
    scripts: tuple[tuple[str, str], ...] = ()
    shell: bool = True
    main: tuple[str, ...] = ("sleep", "infinity")
    ports: tuple[int, ...] = ()


_SERVE = f"""\
#!/bin/sh
exec {shlex.quote(sys.executable)} -I -S {shlex.quote(podserver.__file__)}
"""

IMAGES: Mapping[str, Image] = {
    "local/debian:1": Image(system=True),
    "local/web:1": Image(system=True, scripts=(("serve", _SERVE),), main=("serve",), ports=tuple(podserver.SERVICES)),
    "local/busybox:1": Image(links=_SH_TOOLS),
    "local/distroless:1": Image(scripts=(("app", _APP),), shell=False, main=("app", "--wait")),
}

_BIN_DIRECTORIES = frozenset(("/", *SYSTEM_PATH.split(":")))


class NotExecutableError(Exception):
    """A program that a container cannot start; str() is the runtime's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container's surroundings on this machine.

    directory: everything of it; made by `prepare`. hostname: the pod's name.
    """

    directory: Path
    image: Image
    hostname: str

    @property
    def home(self) -> Path:
        """Its home and working directory; no other container has the same."""
        return self.directory / "home"

    @property
    def bin(self) -> Path:
        """Its own programs."""
        return self.directory / "bin"

    @property
    def path(self) -> str:
        """Its PATH."""
        return f"{self.bin}:{SYSTEM_PATH}" if self.image.system else str(self.bin)

    def environment(self, *, tty: bool) -> dict[str, str]:
        """What a process starts with: built from nothing (recorded: TERM only with a tty, LANG never)."""
        values = {"PATH": self.path, "HOSTNAME": self.hostname, "HOME": str(self.home)}
        return {**values, "TERM": "xterm"} if tty else values

    def prepare(self) -> None:
        """Make its directories and programs; what is there already stays."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.bin.mkdir(exist_ok=True)
        if self.image.shell:
            self._write("hostname", f"#!/bin/sh\necho {self.hostname}\n")
        for name, text in self.image.scripts:
            self._write(name, text)
        for name in self.image.links.split():
            target = shutil.which(name, path=SYSTEM_PATH)
            if target and not (self.bin / name).is_symlink():
                (self.bin / name).symlink_to(target)
        profile = self.home / ".bashrc"
        if self.image.system and not profile.exists():
            profile.write_text(f"PS1='\\u@{self.hostname}:\\w\\$ '\n", encoding="utf-8")

    def resolve(self, program: str) -> str:
        """The file that a program's name means here.

        Raises:
            NotExecutableError: there is none, in the words of the container runtime (recorded in
                exec-distroless-sh and exec-v5-no-such-command).
        """
        if "/" not in program:
            found = shutil.which(program, path=self.path) if program else None
            if found is None:
                raise NotExecutableError(f'exec: "{program}": executable file not found in $PATH')
            return found
        seen = self._seen_at(os.path.normpath(os.path.join(self.home, program)))  # noqa: PTH118 - text, not a path yet
        try:
            mode = os.stat(seen).st_mode  # noqa: PTH116 - as above
        except (OSError, ValueError):
            raise NotExecutableError(f'exec: "{program}": stat {program}: no such file or directory') from None
        if stat.S_ISDIR(mode):
            raise NotExecutableError(f'exec: "{program}": is a directory')
        if not os.access(seen, os.X_OK):
            raise NotExecutableError(f'exec: "{program}": permission denied')
        return seen

    def _seen_at(self, path: str) -> str:
        """Where a path of the container lies on this machine; "" if the container does not have it."""
        directory, name = os.path.split(path)
        if self.image.system:
            return path
        if directory in _BIN_DIRECTORIES:
            return str(self.bin / name)
        return path if path.startswith((f"{self.directory}/", "/tmp/")) else ""  # noqa: S108 - containers share /tmp

    def _write(self, name: str, text: str) -> None:
        script = self.bin / name
        script.write_text(text, encoding="utf-8")
        script.chmod(0o755)
