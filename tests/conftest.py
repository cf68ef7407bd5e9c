"""What every test has in common: property tests are not failed for a slow moment of the machine."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("bastion", deadline=None)
hypothesis.settings.load_profile("bastion")
