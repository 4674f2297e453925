import gc

import pytest

from medssl.cli.large_imports import large_imports


def test_garbage_is_looked_for_again_after_imports_also_where_one_fails() -> None:
    with large_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), large_imports():
        raise ImportError
    assert gc.isenabled()
