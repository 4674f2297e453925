from medssl.workflows.verify import compare

RECORDED = {"scans": 3, "content": "abc", "source_shape": {"min": [9.0, 9.0, 9.0]}, "modalities": {"mr": 3}}


def test_the_same_content_is_the_same_data() -> None:
    verified = compare(RECORDED, RECORDED)
    assert verified.is_same
    assert ("source_shape.min", "[9.0, 9.0, 9.0]", "[9.0, 9.0, 9.0]") in verified.rows


def test_other_content_is_not_however_alike() -> None:
    verified = compare(RECORDED, {**RECORDED, "content": "abd", "modalities": {"ct": 1, "mr": 2}})
    assert not verified.is_same
    assert ("modalities.ct", "-", "1") in verified.rows
    assert ("modalities.mr", "3", "2") in verified.rows
