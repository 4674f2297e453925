from pathlib import Path

from medssl.scans.file_memory import FileMemory, file_signature

SCAN = Path("/scans/a.nii.gz")


def test_what_is_remembered_is_known_in_the_next_run(tmp_path):
    FileMemory(tmp_path / "facts.jsonl").remember(SCAN, (100, 5), "abc")
    assert FileMemory(tmp_path / "facts.jsonl").look_up(SCAN, (100, 5)) == "abc"


def test_a_file_of_another_size_or_time_is_unknown(tmp_path):
    hashes = FileMemory(tmp_path / "facts.jsonl")
    hashes.remember(SCAN, (100, 5), "abc")
    assert hashes.look_up(SCAN, (101, 5)) is None
    assert hashes.look_up(SCAN, (100, 6)) is None
    assert hashes.look_up(Path("/scans/b.nii.gz"), (100, 5)) is None


def test_signature_changes_with_the_content(tmp_path):
    file = tmp_path / "scan"
    file.write_bytes(b"a")
    before = file_signature(file)
    file.write_bytes(b"bc")
    assert file_signature(file) != before


def test_runs_can_add_at_the_same_time(tmp_path):
    one, other = FileMemory(tmp_path / "facts.jsonl"), FileMemory(tmp_path / "facts.jsonl")
    for number in range(50):
        one.remember(Path(f"/one/{number}"), (1, number), "x")
        other.remember(Path(f"/other/{number}"), (1, number), "y")
    both = FileMemory(tmp_path / "facts.jsonl")
    assert all(both.look_up(Path(f"/one/{number}"), (1, number)) == "x" for number in range(50))
    assert all(both.look_up(Path(f"/other/{number}"), (1, number)) == "y" for number in range(50))


def test_a_line_cut_short_by_a_kill_is_passed_over(tmp_path):
    FileMemory(tmp_path / "facts.jsonl").remember(SCAN, (100, 5), "abc")
    FileMemory(tmp_path / "facts.jsonl").remember(SCAN, (100, 6), "def")
    listing = tmp_path / "facts.jsonl"
    listing.write_bytes(listing.read_bytes()[:-8])
    hashes = FileMemory(tmp_path / "facts.jsonl")
    assert hashes.look_up(SCAN, (100, 5)) == "abc"
    assert hashes.look_up(SCAN, (100, 6)) is None


def test_names_that_are_not_unicode_are_remembered(tmp_path):
    odd = Path("/scans/M\udcfcller.nii.gz")
    FileMemory(tmp_path / "facts.jsonl").remember(odd, (1, 2), "abc")
    assert FileMemory(tmp_path / "facts.jsonl").look_up(odd, (1, 2)) == "abc"
