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


def test_many_are_looked_up_at_once(tmp_path):
    memory = FileMemory(tmp_path / "facts.jsonl")
    memory.remember_all((Path(f"/scans/{number}"), (1, number), str(number)) for number in range(5))
    asked = [(Path("/scans/3"), (1, 3)), (Path("/scans/1"), None), (Path("/scans/4"), (1, 4)), (SCAN, (1, 4))]
    for each in (memory, FileMemory(tmp_path / "facts.jsonl")):
        assert list(each.look_up_all(asked)) == ["3", None, "4", None]


def test_the_last_of_several_facts_counts_and_the_same_is_not_added_again(tmp_path):
    memory = FileMemory(tmp_path / "facts.jsonl")
    for fact in ("abc", "def", "def"):
        memory.remember(SCAN, (100, 5), fact)
    assert len((tmp_path / "facts.jsonl").read_text().splitlines()) == 2
    assert (
        memory.look_up(SCAN, (100, 5))
        == FileMemory(tmp_path / "facts.jsonl").look_up(SCAN, (100, 5))
        == "def"
    )


def test_a_list_that_is_damaged_or_removed_tells_nothing(tmp_path):
    listing = tmp_path / "facts.jsonl"
    FileMemory(listing).remember(SCAN, (100, 5), "abc")
    known = FileMemory(listing)
    listing.write_bytes(b'\xff\xfe\n["/scans/a.nii.gz", [1], 5, "abc"]\n3\n')
    assert known.look_up(SCAN, (100, 5)) is None
    assert FileMemory(listing).look_up(SCAN, (100, 5)) is None
    listing.unlink()
    assert known.look_up(SCAN, (100, 5)) is None


def test_nothing_is_written_where_there_is_nothing_to_remember(tmp_path):
    FileMemory(tmp_path / "store" / "facts.jsonl").remember_all([])
    assert not (tmp_path / "store").exists()


def test_a_line_about_another_file_is_not_taken_for_this_one(tmp_path):
    listing = tmp_path / "facts.jsonl"
    FileMemory(listing).remember(SCAN, (100, 5), "abc")
    known = FileMemory(listing)
    listing.write_text(listing.read_text().replace("a.nii.gz", "b.nii.gz"))
    assert known.look_up(SCAN, (100, 5)) is None
