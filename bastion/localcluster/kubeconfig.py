"""The tokens of the cluster's two callers and the kubeconfig of each; used by __main__ at start."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from bastion.localcluster import rbac
from bastion.localcluster.authentication import AUTHENTICATED
from bastion.localcluster.files import write_private
from bastion.localcluster.rbac import User
from bastion.localcluster.seed import BASTION_ACCOUNT, BASTION_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ADMIN = User(name="kubernetes-admin", groups=(rbac.MASTERS, AUTHENTICATED))
BASTION = rbac.service_account(BASTION_NAMESPACE, BASTION_ACCOUNT)

_FILES: Mapping[str, User] = {"kubeconfig": ADMIN, "bastion.kubeconfig": BASTION}

_TEMPLATE = """\
apiVersion: v1
kind: Config
current-context: local
clusters:
- name: local
  cluster:
    server: {url}
    certificate-authority-data: {ca}
contexts:
- name: local
  context:
    cluster: local
    user: {user}
    namespace: default
users:
- name: {user}
  user:
    token: {token}
"""


def ensure_tokens(directory: Path, new_token: Callable[[], str]) -> dict[str, User]:
    """Whose each token is; the same ones as before if the directory has them."""
    path = directory / "tokens.json"
    tokens = _load(path)
    if tokens is None:
        tokens = {user.name: new_token() for user in _FILES.values()}
        write_private(path, json.dumps(tokens).encode())
    return {tokens[user.name]: user for user in _FILES.values()}


def write(directory: Path, url: str, ca: bytes, tokens: Mapping[str, User]) -> None:
    """Write one kubeconfig for each caller."""
    token_of = {user.name: token for token, user in tokens.items()}
    ca_data = base64.b64encode(ca).decode()
    for name, user in _FILES.items():
        short = user.name.rpartition(":")[2]
        text = _TEMPLATE.format(url=url, ca=ca_data, user=short, token=token_of[user.name])
        write_private(directory / name, text.encode())


def _load(path: Path) -> dict[str, str] | None:
    try:
        tokens = json.loads(path.read_bytes())
        return {user.name: str(tokens[user.name]) for user in _FILES.values()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
