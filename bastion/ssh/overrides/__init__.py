"""All of ours that stands on asyncssh's private parts, held to the source they were read in; used by ssh.

channels      a server channel as a pod session needs it
connections   what each connection needs, put on it and taken back
negotiation   which algorithms are offered to whom
fastpath      a shorter way for channel data
sources       whether this asyncssh is the one that was read
"""

from bastion.ssh.overrides.channels import PodChannel, open_channels, pod_channel
from bastion.ssh.overrides.connections import (
    bound_reading,
    hasten,
    hold_when_full,
    let_go,
    loss,
    one_exchange_before_login,
    tell_of_tries,
    turn_away,
)
from bastion.ssh.overrides.fastpath import differs
from bastion.ssh.overrides.negotiation import prefer_gcm, suit_dropbear
from bastion.ssh.overrides.sources import check

__all__ = [
    "PodChannel",
    "bound_reading",
    "check",
    "differs",
    "hasten",
    "hold_when_full",
    "let_go",
    "loss",
    "one_exchange_before_login",
    "open_channels",
    "pod_channel",
    "prefer_gcm",
    "suit_dropbear",
    "tell_of_tries",
    "turn_away",
]
