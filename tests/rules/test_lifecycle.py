"""How trips end, as a table."""

from __future__ import annotations

import pytest

from bastion import lifecycle
from bastion.errors import BastionError, Code
from bastion.events import Exited, HungUp
from bastion.lifecycle import Ending
from bastion.model import Outcome


@pytest.mark.parametrize(
    ("end", "ending"),
    [
        # the process ended by itself: its status is the session's, whatever it is
        (Exited(0, Outcome.EXITED), Ending(status=0, outcome=Outcome.EXITED)),
        (Exited(3, Outcome.EXITED), Ending(status=3, outcome=Outcome.EXITED)),
        (Exited(254, Outcome.EXITED), Ending(status=254, outcome=Outcome.EXITED)),
        # the stream broke: 255 and the cause, never 0
        (
            Exited(255, Outcome.BROKEN, "pod web was deleted"),
            Ending(status=255, outcome=Outcome.BROKEN, reason="pod web was deleted"),
        ),
        (HungUp("gone"), Ending(status=255, outcome=Outcome.HUNG_UP, reason="gone")),
        # it never started
        (
            BastionError(Code.NO_SHELL, "no shell"),
            Ending(status=126, outcome=Outcome.NOT_STARTED, reason="no shell"),
        ),
        (
            BastionError(Code.STREAM_BROKEN, "lost"),
            Ending(status=255, outcome=Outcome.BROKEN, reason="lost"),
        ),
        # the record cannot be kept
        (
            BastionError(Code.RECORD_UNAVAILABLE, "no record"),
            Ending(status=254, outcome=Outcome.UNRECORDED, reason="no record"),
        ),
    ],
)
def test_an_end_gives_a_status_an_outcome_and_words(end: Exited | HungUp | BastionError, ending: Ending) -> None:
    assert lifecycle.ending(end) == ending


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_status_and_it_is_never_success(code: Code) -> None:
    ending = lifecycle.ending(BastionError(code, "words"))

    assert ending.status in {2, 126, 253, 254, 255}
    assert ending.outcome not in {Outcome.EXITED, Outcome.SUCCESS}
