from pathlib import Path

import numpy as np
import pytest

from medssl.errors import UsageError
from medssl.evaluate.embedding_table import Embeddings, read_embeddings, write_embeddings

VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
EMBEDDINGS = Embeddings(("a", "b, c", "d"), ("s1", "s1", "s2"), ("/x/a.nii", "/x/b.nii", "/y/ä.nii"), VECTORS)


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_what_is_read_is_what_was_written(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = tmp_path / f"embeddings{suffix}"
    write_embeddings(table, EMBEDDINGS)
    read = read_embeddings(table)
    assert (read.scan_ids, read.subject_ids, read.paths) == (
        EMBEDDINGS.scan_ids,
        EMBEDDINGS.subject_ids,
        EMBEDDINGS.paths,
    )
    np.testing.assert_array_equal(read.vectors, VECTORS)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.npz, \.parquet"):
        write_embeddings(tmp_path / "table.xlsx", EMBEDDINGS)


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet", ".txt"])
@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "scan_id,subject_id,path,e0\nx,y,z,word\n"])
def test_a_table_of_something_else_is_refused(suffix: str, content: str, tmp_path: Path) -> None:
    (tmp_path / f"table{suffix}").write_text(content)
    with pytest.raises(UsageError, match="medssl embed"):
        read_embeddings(tmp_path / f"table{suffix}")
