"""Where pictures are looked for: on a person's own disk beside the table and above it, in uploads never outside."""

import io
import json
import zipfile

import pytest
from PIL import Image

from mode_core.samples import SampleError, read_samples, samples_from_uploads

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


def png(colour: str = "red") -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(held, "PNG")
    return held.getvalue()


def picture(place, colour="red"):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(png(colour))
    return place


def table(place, *names: str):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("\n".join(json.dumps({"image": name, "question": "what ?"}) for name in names))
    return place


def colour(sample) -> str:
    return next(name for name, value in COLOURS.items() if sample.images[0].load().getpixel((0, 0)) == value)


def test_a_path_of_a_folder_above_is_found_unless_two_could_be_meant(tmp_path):
    picture(tmp_path / "data/coco/1.png")
    path = table(tmp_path / "data/calibration/s.jsonl", "coco/1.png")
    assert colour(read_samples(path)[0]) == "red"
    picture(tmp_path / "coco/1.png", "blue")
    with pytest.raises(SampleError, match=r"'coco/1.png' could be .*data/coco/1.png and .*/coco/1.png. Say which with"):
        read_samples(path)
    assert colour(read_samples(path, images=tmp_path)[0]) == "blue"
    picture(tmp_path / "data/calibration/coco/1.png", "blue")  # beside the table is never in doubt
    assert colour(read_samples(path)[0]) == "blue"


def test_a_bare_name_is_never_another_folders(tmp_path):
    picture(tmp_path / "1.png")
    picture(tmp_path / "tables/other/1.png")
    path = table(tmp_path / "tables/s.jsonl", "1.png")
    with pytest.raises(SampleError, match=r"no picture '1.png' beside the table.*--images"):
        read_samples(path)
    assert len(read_samples(path, images=tmp_path)) == 1
    with pytest.raises(SampleError, match=r"There is no folder .*gone \(--images\)"):
        read_samples(path, images=tmp_path / "gone")


def test_absolute_paths_links_and_file_addresses_are_the_persons_own_disk(tmp_path):
    far = picture(tmp_path / "far/a b.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/linked").symlink_to(tmp_path / "far")
    path = table(tmp_path / "here/s.jsonl", str(far), "linked/a b.png", far.as_uri(), "../far/a b.png")
    found = read_samples(path)
    assert len(found) == 4 and {colour(sample) for sample in found} == {"red"}


def archive(**entries: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in entries.items():
            opened.writestr(name, data)
    return held.getvalue()


def asking(*names: str) -> bytes:
    return "\n".join(json.dumps({"image": name, "question": "what ?"}) for name in names).encode()


def test_uploads_stay_closed_in_themselves(tmp_path):
    far = picture(tmp_path / "far.png")
    for name in (str(far), far.as_uri(), "../far.png", "C:\\far.png"):
        for files in ({"s.jsonl": asking(name)}, {"s.zip": archive(**{"in/s.jsonl": asking(name)})}):
            with pytest.raises(SampleError, match=r"leads outside|was not uploaded|nothing is downloaded"):
                samples_from_uploads(files)
    (tmp_path / "s.zip").write_bytes(archive(**{"s.jsonl": asking(str(far))}))
    with pytest.raises(SampleError, match=r"leads outside"):
        read_samples(tmp_path / "s.zip")


def test_in_a_zip_the_whole_path_counts(tmp_path):
    held = {"s.jsonl": asking("b/1.png"), "a/1.png": png()}
    with pytest.raises(SampleError, match=r"'b/1.png' was not uploaded, or lies in another folder"):
        samples_from_uploads({"s.zip": archive(**held)})
    found = samples_from_uploads({"s.zip": archive(**held | {"b/1.png": png("blue")})})
    assert colour(found[0]) == "blue"
    above = {"data/cal/s.jsonl": asking("coco/1.png"), "data/coco/1.png": png("blue"), "x/coco/1.png": png()}
    assert colour(samples_from_uploads({"s.zip": archive(**above)})[0]) == "blue"


def test_flat_uploads_are_found_by_bare_name_only_where_that_is_one_path(tmp_path):
    found = samples_from_uploads({"s.jsonl": asking("train/1.png"), "1.png": png()})
    assert colour(found[0]) == "red"
    found = samples_from_uploads(
        {"s.jsonl": asking("train/1.png", "val/1.png", "2.png"), "1.png": png(), "2.png": png()}
    )
    assert [sample.images[0].name for sample in found] == ["2.png"]
    assert "train/1.png and val/1.png would both be the one file 1.png" in found.errors[0] and len(found.errors) == 2


def test_one_bad_zip_of_several_is_told_and_sums_are_bounded(monkeypatch):
    good = archive(**{"s.jsonl": asking("1.png"), "1.png": png()})
    broken = bytearray(good)
    broken[40:60] = b"x" * 20
    strange = bytearray(good)
    for place in (good.index(b"PK\x03\x04") + 8, good.index(b"PK\x01\x02") + 10):
        strange[place] = 99
    found = samples_from_uploads({"a.zip": good, "b.zip": bytes(broken), "c.zip": bytes(strange), "d.zip": archive()})
    assert len(found) == 1 and [error[:5] for error in found.errors] == ["b.zip", "c.zip", "d.zip"]
    assert all("is not a readable zip" in error for error in found.errors[:2])
    with pytest.raises(SampleError, match=r"First error: d\.zip holds no file"):
        samples_from_uploads({"d.zip": archive()})
    monkeypatch.setattr("mode_core.samples.uploads.MAX_ARCHIVE_BYTES", 3000)
    more = {f"{n}.zip": archive(**{f"{n}.bin": bytes(range(250)) * 5}) for n in range(3)}
    assert "2.zip unpacks to more than" in samples_from_uploads({"s.zip": good} | more).errors[0]


def test_two_uploads_of_one_name_are_told_of():
    files = {"s.jsonl": asking("1.png", "2.png"), "2.png": png()}
    zips = {f"{name}.zip": archive(**{"1.png": png(name)}) for name in COLOURS}
    found = samples_from_uploads(files | zips)
    assert [sample.images[0].name for sample in found] == ["2.png"]
    assert found.errors[0].startswith("two different files are called 1.png; neither is used")
    assert (
        len(samples_from_uploads(files | {"red.zip": zips["red.zip"], "again.zip": zips["red.zip"]})) == 2
    )  # the same file


def test_within_folders_nothing_outside_is_there_however_it_is_named(tmp_path):
    """Absolute paths, `..`, links to pictures, tables and folders: all as if there were nothing."""
    secret, open_, inside = picture(tmp_path / "secret/1.png"), tmp_path / "open", tmp_path / "open/set"
    hidden = table(tmp_path / "secret/t.jsonl", "1.png")
    picture(inside / "own.png", "blue")
    (inside / "linked.png").symlink_to(secret)
    path = table(inside / "s.jsonl", "own.png", str(secret), "../../secret/1.png", "linked.png", "secret/1.png")
    (inside / "t.jsonl").symlink_to(hidden)
    (open_ / "folder").symlink_to(tmp_path / "secret")
    within = (open_.resolve(),)
    for place in (path, inside):
        found = read_samples(place, on_error="collect", within=within)
        assert [colour(sample) for sample in found] == ["blue"] and len(found.errors) == 4
        assert all("there is no picture" in error for error in found.errors)
    assert len(read_samples(path, on_error="collect")) == 4 + 1  # its owner's own disk
    for place in (hidden, inside / "t.jsonl", open_ / "folder", open_ / ".." / "secret"):
        with pytest.raises(SampleError, match="There is nothing at"):
            read_samples(place, within=within)
