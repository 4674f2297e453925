"""Fixtures that several rooms share."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no deadline")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Folder of real scans beside a developer's checkout; tests that want it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real scans of ../shared/data are not on this machine")
    return SHARED_DATA
