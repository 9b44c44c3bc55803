"""How hard to look: a handful of fixed examples in the suite, `VITASK_FUZZ=2000` new ones a test when asked."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ASKED = int(os.environ.get("VITASK_FUZZ", "0"))


def examples(few: int, share: float = 1.0) -> settings:
    """Settings of a test: `few` examples in the suite, `share` of what was asked for otherwise."""
    return settings(
        max_examples=max(1, round(ASKED * share)) if ASKED else few,
        deadline=None,
        derandomize=not ASKED,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
