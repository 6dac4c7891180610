"""Samples from every form they may come in, and every refusal in words."""

import io
import json
import zipfile

import pytest
from PIL import Image

from mode_core.samples import (
    ImageSource,
    Sample,
    SampleError,
    images,
    read_samples,
    records,
    samples_from_uploads,
)
from mode_core.samples import archives as files

ASK = "what is it ?"


def png(colour: str = "red", size: tuple[int, int] = (8, 6), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / "images" / f"{name}.png").write_bytes(png({"a": "red", "b": "blue"}[name]))
    return tmp_path


def write(folder, *lines, name="samples.jsonl"):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


FULL = {
    "id": "one",
    "images": ["images/a.png"],
    "messages": [{"role": "user", "content": f"<image>{ASK}"}],
    "answer": "red",
    "task": "colour",
}


def test_the_full_line(folder):
    write(folder, FULL, "", {"image": "images/b.png", "question": ASK})
    first, second = read_samples(folder)
    assert (first.id, first.answer, first.task, first.text) == ("one", "red", "colour", ASK)
    assert first.prompt() == [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ASK}]}]
    assert second.prompt() == first.prompt() and second.answer is None
    picture = second.images[0].load()
    assert picture.mode == "RGB" and picture.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("key", ["text", "question", "prompt"])
def test_shorthand_and_text_only(folder, key):
    write(folder, {"images": [], key: ASK})
    assert read_samples(folder / "samples.jsonl")[0].prompt()[0]["content"] == [{"type": "text", "text": ASK}]


def test_an_id_is_made_from_the_content(folder):
    write(folder, {"image": "images/a.png", "text": ASK}, {"image": "images/b.png", "text": ASK})
    first, second = read_samples(folder)
    assert first.id != second.id
    assert first.id == Sample((ImageSource("x", data=png("red")),), ({"role": "user", "content": ASK},)).id


def test_csv_sharegpt_and_captions_say_the_same(folder):
    write(folder, "image,question,answer,task", f'images/a.png,"{ASK}",red,colour', name="t.csv")
    talk = [{"from": "human", "value": f"<image>\n{ASK}"}, {"from": "gpt", "value": "red"}]
    (folder / "t.json").write_text(json.dumps([{"id": "x", "image": "images/a.png", "conversations": talk}]))
    (folder / "images" / "a.txt").write_text(ASK)
    (folder / "images" / "b.txt").write_text(ASK)
    (table,), (chat,) = read_samples(folder / "t.csv"), read_samples(folder / "t.json")
    captioned = read_samples(folder / "images")[0]
    assert {s.text for s in (table, chat, captioned)} == {ASK}
    assert table.answer == chat.answer == "red" and table.task == "colour"


def test_zip_and_uploads(folder):
    write(folder, FULL)
    with zipfile.ZipFile(folder / "s.zip", "w") as archive:
        archive.write(folder / "samples.jsonl", "inner/samples.jsonl")
        archive.write(folder / "images" / "a.png", "inner/images/a.png")
        archive.writestr("__MACOSX/._a.png", b"clutter")
    zipped = read_samples(folder / "s.zip")
    uploaded = samples_from_uploads({"s.zip": (folder / "s.zip").read_bytes()})
    flat = samples_from_uploads({"samples.jsonl": (folder / "samples.jsonl").read_bytes(), "a.png": png()})
    assert [s.id for s in (*zipped, *uploaded, *flat)] == ["one"] * 3
    assert flat[0].images[0].load().size == (8, 6)


def test_uploaded_pictures_with_questions():
    found = samples_from_uploads(
        {"a.png": png("red"), "b.png": png("blue"), "c.png": b"no picture", "d.png": png("green"), "e.exe": b"MZ"},
        {"a.png": "colour ?", "b.png": " shape ? ", "c.png": "x"},
    )
    assert [s.text for s in found] == ["colour ?", "shape ?"]
    assert [e.split(":")[0].split(" is ")[0] for e in found.errors] == ["c.png", "d.png", "e.exe"]
    assert "no question" in found.errors[1] and "not a picture, sound, film, table or zip" in found.errors[2]
    assert len(samples_from_uploads({"a.png": png()}, "the same ?")) == 1


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            {"text": "x"},
            r"samples.jsonl, line 2: no 'image' \(keys: \['text'\]\). Give an image path, or drop the line",
        ),
        ({"image": "images/a.png"}, r"line 2: no text \(keys: \['image'\]\)"),
        ({"image": "images/z.png", "text": "x"}, "no picture 'images/z.png' beside the table"),
        ({"image": "/etc/passwd", "text": "x"}, "/etc/passwd is not a picture that can be read"),
        ({"image": "b.png", "text": "x"}, "no picture 'b.png' beside the table"),
        ({"image": "a\0.png", "text": "x"}, r"no picture 'a\\x00.png' beside the table"),
        ({"image": "\ud800.png", "text": "x"}, r"no picture '\\ud800.png' beside the table"),
        (
            {"image": "x" * 300 + ".png", "text": "x"},
            r"'xxx.*… \(304 characters\) cannot be read \(File name too long\)",
        ),
        (
            {"image": "https://e.org/a.png", "text": "x"},
            r"picture 1 is an address \(https://…\); nothing is downloaded",
        ),
        ({"image": "iVBORw0KGgo" + "A" * 80 + "!", "text": "x"}, "picture 1 is base64 text that is damaged"),
        ({"image": "A" * 5000, "text": "x"}, "picture 1 is not a picture that can be read"),
        ({"image": "data:image/png,abc", "text": "x"}, "picture 1 is a data URI that is not in base64"),
        ({"image": {"x": 1}, "text": "x"}, "picture 1 is an object without bytes, base64"),
        ({"image": "images/bad.png", "text": "x"}, "images/bad.png is not a picture that can be read"),
        ({"image": 3, "text": "x"}, "'image' must be a path or a list of paths; got 3"),
        ({"image": [], "text": 3}, "'text' must be text; got int"),
        (
            {"image": "images/a.png", "text": "<image> x <image>"},
            "the text holds 2 × <image>, but there are 1 pictures",
        ),
        ({"image": ["images/a.png"] * 2, "text": "<image> ?"}, "the text holds 1 × <image>, but there are 2 pictures"),
        (
            {
                "images": ["images/a.png"],
                "messages": [{"role": "user", "content": "<image>x"}, {"role": "assistant", "content": "<image>"}],
            },
            "the last answer holds <image>",
        ),
        ({"image": [], "text": "half \ud800"}, r"half a character \('\\ud800', a lone surrogate\)"),
        ({"id": {"a": 1}, "image": [], "text": "x"}, "'id' must be text or a number; got a dict"),
        ({"id": True, "image": [], "text": "x"}, "'id' must be text or a number; got True"),
        ('{"image": [], "text": "x", "answer": NaN}', "'answer' must be text or a number; got NaN, which is no JSON"),
        (
            f'{{"image": [], "text": "x", "id": {"9" * 5000}}}',
            "'id' must be text or a number; got a number of 5,000 dig",
        ),
        ('{"image": ' + "[" * 100_000, "line 2: nested too deeply"),
        (
            {"image": [], "messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "1 parts of type 'audio' without a path, but 0 lie beside",
        ),
        ({"images": [], "messages": [{"role": "user", "content": [{"type": "image"}]}]}, "1 parts .* but 0 lie beside"),
        ({"image": [], "messages": [{"role": "user"}]}, "turn 1: 'role' and 'content' must both be text"),
        ({"image": [], "messages": [{"role": "robot", "content": "x"}]}, "the role 'robot' is unknown"),
        ({"image": [], "messages": [{"role": "system", "content": "x"}]}, "no user turn"),
        ({"image": [], "text": "  "}, "the sample has no text"),
        ("{not json", "line 2: not valid JSON"),
        ("[1]", "expected a JSON object with keys; got list"),
    ],
)
def test_refusals_name_file_line_and_cure(folder, line, text):
    (folder / "images" / "bad.png").write_bytes(b"\x89PNG but not really")
    write(folder, FULL, line)
    with pytest.raises(SampleError, match=text):
        read_samples(folder)
    collected = read_samples(folder, on_error="collect")
    assert len(collected) == 1 and len(collected.errors) == 1


def test_nothing_to_read(tmp_path):
    with pytest.raises(SampleError, match="There is nothing at"):
        read_samples(tmp_path / "nowhere")
    with pytest.raises(SampleError, match=r"no samples.jsonl, no table and no pictures \(it holds: nothing\)"):
        read_samples(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(SampleError, match=r"x.txt is no table of samples"):
        read_samples(tmp_path / "x.txt")
    write(tmp_path, {"text": "x"})
    with pytest.raises(
        SampleError, match=r"holds no usable sample. First of 1 errors: samples.jsonl, line 1: no 'image'"
    ):
        read_samples(tmp_path, on_error="collect")


def archive(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in entries.items():
            opened.writestr(name.replace("__", "../"), data)
    return buffer.getvalue()


def test_dangerous_archives(monkeypatch):
    with pytest.raises(SampleError, match="leads outside"):
        files.unzip("s.zip", archive(__evil=b"x"))
    with pytest.raises(SampleError, match="unpacks to over 200 times its size"):
        files.unzip("s.zip", archive(bomb=bytes(3_000_000)))
    with pytest.raises(SampleError, match="unpacks to over 200 times its size"):
        files.unzip("s.zip", archive(**{str(n): bytes(900_000) for n in range(15)}))
    monkeypatch.setattr(files, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(SampleError, match="unpacks to more than"):
        files.unzip("s.zip", archive(a=bytes(600), b=bytes(600)))
    with pytest.raises(SampleError, match="not a readable zip"):
        files.unzip("s.zip", b"PK but no")


def test_limits_of_pictures_and_text(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 40)
    with pytest.raises(SampleError, match=r"big.png has 8 × 6 pixels; at most"):
        ImageSource("big.png", data=png()).check()
    monkeypatch.setattr(records, "MAX_TEXT", 5)
    with pytest.raises(SampleError, match="the text has 12 characters; at most 5"):
        Sample((), ({"role": "user", "content": ASK},))


def test_a_cut_off_picture_is_told_when_it_is_used():
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, format="PNG")
    source = ImageSource("half.png", data=whole.getvalue()[:1500])
    source.check()
    with pytest.raises(SampleError, match=r"half.png: the picture is damaged"):
        source.load()


def test_transparency_and_orientation():
    clear = ImageSource("t.png", data=png((0, 0, 0, 0), mode="RGBA")).load()
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (8, 4)).save(buffer, format="JPEG", exif=exif)
    assert ImageSource("r.jpg", data=buffer.getvalue()).load().size == (4, 8)


def test_pictures_without_a_mark_go_in_front():
    pictures = tuple(ImageSource(str(n), data=png()) for n in range(2))
    turns = ({"role": "system", "content": "be brief"}, {"role": "user", "content": f"first {ASK}"})
    content = Sample(pictures, turns, id="x").prompt()[1]["content"]
    assert [part["type"] for part in content] == ["image", "image", "text"]


def test_marks_are_text_where_there_is_no_such_medium():
    turns = ({"role": "user", "content": "write <image> and <video>"},)
    assert Sample((), turns).prompt()[0]["content"] == [{"type": "text", "text": "write <image> and <video>"}]
    content = Sample((ImageSource("x", data=png()),), turns).prompt()[0]["content"]
    assert [part["type"] for part in content] == ["text", "image", "text"] and content[2]["text"] == " and <video>"
