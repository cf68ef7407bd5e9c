"""How many examples a property test looks at; used where the usual hundred are too few or too many."""

from __future__ import annotations

from hypothesis import settings


def examples(count: int) -> settings:
    """That many, or as many as the profile wants if those are more (make fuzz)."""
    usual, wanted = settings.get_profile("bastion").max_examples, settings().max_examples
    return settings(max_examples=max(count, wanted) if wanted > usual else count)
