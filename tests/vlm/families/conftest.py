"""Every test that asks for a `species` runs once for each of the zoo."""

from __future__ import annotations

import pytest

from .zoo import ZOO


@pytest.fixture(params=ZOO.values(), ids=ZOO)
def species(request):
    return request.param
