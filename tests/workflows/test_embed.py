import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medssl.evaluate.embedding_table import read_embeddings
from medssl.networks.encoder import Encoder
from medssl.networks.weights import load_encoder
from medssl.progress import SilentProgress
from medssl.scans.record import PreparedScan
from medssl.workflows import embed as module
from medssl.workflows.embed import embed, embed_scans


@pytest.fixture
def place(balls: Path, ball_run: Path, tmp_path: Path) -> SimpleNamespace:
    """A run, scans, and where to write."""
    return SimpleNamespace(
        weights=ball_run, scans=balls, store=tmp_path / "store", out=tmp_path / "table.npz"
    )


def run(place: SimpleNamespace) -> np.ndarray:
    embed(place.weights, place.scans, out=place.out, store=place.store, progress=SilentProgress())
    return np.asarray(read_embeddings(place.out).vectors)


def test_one_vector_a_scan_whatever_the_batch(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = run(place)
    assert vectors.shape == (11, load_encoder(place.weights / "encoder.safetensors")[0].channels[-1])
    assert len(np.unique(vectors, axis=0)) == 11
    place.out.unlink()
    monkeypatch.setattr(module, "CROPS_AT_ONCE", 3)
    np.testing.assert_allclose(run(place), vectors, rtol=1e-4, atol=1e-6)


def test_a_run_that_was_stopped_goes_on_where_it_was(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(place)
    place.out.unlink()
    asked: list[int] = []
    stops = iter([4, None])

    def counting(encoder: Encoder, scans: Sequence[PreparedScan], **options: Any) -> Iterator[np.ndarray]:
        asked.append(len(scans))
        stop = next(stops)
        yield from itertools.islice(embed_scans(encoder, scans, **options), stop)
        if stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "embed_scans", counting)
    with pytest.raises(KeyboardInterrupt):
        run(place)
    assert not place.out.exists()
    np.testing.assert_allclose(run(place), expected, rtol=1e-4, atol=1e-6)
    assert asked == [11, 7]
    assert list(place.out.parent.glob(".table*")) == []


def test_a_4d_scan_counts_as_the_weights_record(
    place: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, provenance = load_encoder(place.weights / "encoder.safetensors")
    provenance = {**provenance, "data": {**provenance["data"], "time_points": "all"}}
    monkeypatch.setattr(module, "load_encoder", lambda _: (encoder, provenance))
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 20, 20, 2)), (2, 2, 2, 0))
    (tmp_path / "4d").mkdir()
    nib.Nifti1Image((1e4 * noise).astype(np.int16), np.eye(4)).to_filename(tmp_path / "4d" / "scan.nii.gz")
    place.scans = tmp_path / "4d"
    assert len(np.unique(run(place), axis=0)) == 2
    assert read_embeddings(place.out).scan_ids == ("scan@0", "scan@1")
