"""100 workers want 2,000 jobs at once: each is had once. (How fast is what benchmarks/shared.py tells.)"""

import pytest

from benchmarks import shared
from tests import postgres


@pytest.mark.long
def test_no_job_is_had_twice() -> None:
    said = shared.report(postgres.fresh_url(), jobs=2000, count=100, processes=8)
    assert "each of the 2,000 was taken once and done once" in said
    print(said)
