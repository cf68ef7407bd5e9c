"""All of ours that stands on asyncssh's private parts, held to the source they were read in; used by ssh.

channels      a server channel as a pod session needs it
preparing     what each connection needs, put on it in order and taken back
connections   the parts of that: limits
negotiation   the parts of that: which algorithms are offered to whom
fastpath      the parts of that: a shorter way for channel data
sources       whether this asyncssh is the one that was read
"""

from bastion.ssh.overrides.channels import PodChannel, open_channels, pod_channel
from bastion.ssh.overrides.connections import loss, turn_away
from bastion.ssh.overrides.fastpath import differs
from bastion.ssh.overrides.preparing import Prepared, prepare
from bastion.ssh.overrides.sources import check

__all__ = [
    "PodChannel",
    "Prepared",
    "check",
    "differs",
    "loss",
    "open_channels",
    "pod_channel",
    "prepare",
    "turn_away",
]
