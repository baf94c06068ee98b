"""A machine that lacks what a test needs skips it; CI fails it, so that no test is left out for ever."""

import pytest

from tests.absent import absent, package


def test_where_ci_is_set_what_is_lacking_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no such program"):
        absent("no such program")
    with pytest.raises(pytest.skip.Exception, match="no no_such_module"):
        package("no_such_module")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must have it: no such program"):
        absent("no such program")
    with pytest.raises(pytest.fail.Exception, match="no no_such_module"):
        package("no_such_module")
    assert package("pytest") is pytest
