"""Every form in which data sets are published that the README lists, made here and read: what is asked, answered, seen.

All say the same: a red picture, "what is it ?", "red". A form that holds more has its own checks.
"""

import base64
import io
import json
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mode_core.samples import read_samples

ASK, RED = "what is it ?", (255, 0, 0)
README = Path(__file__).parents[3] / "README.md"


def png(colour: str = "red") -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(held, "PNG")
    return held.getvalue()


def put(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(*entries: object) -> str:
    return "\n".join(json.dumps(entry) for entry in entries)


def talk(mark: str = "<image>\n") -> list[dict[str, str]]:
    return [{"from": "human", "value": mark + ASK}, {"from": "gpt", "value": "red"}]


def said(mark: str = "<image>") -> list[dict[str, str]]:
    return [{"role": "user", "content": mark + ASK}, {"role": "assistant", "content": "red"}]


def own(at):
    full = {"image": "a.png", "question": ASK, "answer": "red", "task": "colour"}
    return put(at, "s.jsonl", lines(full))


def sharegpt(at):
    return put(at, "s.json", [{"id": "x", "image": "a.png", "conversations": talk()}])


def messages(at):
    return put(at, "s.jsonl", lines({"messages": said(), "images": ["a.png"]}))


def parts_inside(at):
    asked = [{"type": "image", "image": "a.png"}, {"type": "text", "text": ASK}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": [{"type": "text", "text": "red"}]}]
    return put(at, "s.jsonl", lines({"messages": turns}))


def parts_beside(at):
    asked = [{"type": "image"}, {"type": "text", "text": ASK}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": "red"}]
    return put(at, "s.jsonl", lines({"messages": turns, "images": ["a.png"]}))


def openai(at):
    address = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    asked = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": ASK}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": "red"}]
    return put(at, "s.jsonl", lines({"messages": turns}))


def query(at):
    return put(at, "s.jsonl", lines({"query": f"<image>{ASK}", "response": "red", "images": ["a.png"]}))


def instruction(at):
    return put(at, "s.json", [{"instruction": "<image>what", "input": "is it ?", "output": "red", "images": ["a.png"]}])


def csv(at):
    return put(at, "s.csv", f'image,question,answer,task\na.png,"{ASK}",red,colour\n')


def tsv(at):
    cell = base64.b64encode(png()).decode()
    return put(at, "s.tsv", f"index\tquestion\tanswer\timage\n7\t{ASK}\tred\t{cell}\n")


def parquet(at):
    rows = [{"image": {"bytes": png(), "path": "x.png"}, "question": ASK, "answer": "red"}]
    pd.DataFrame(rows).to_parquet(at / "train-00000-of-00001.parquet")
    return at / "train-00000-of-00001.parquet"


def imagefolder(at):
    put(at, "train/a.png", png())
    put(at, "train/metadata.csv", f"file_name,text,answer\na.png,{ASK},red\n")
    return at / "train"


def captions(at):
    put(at, "p/a.png", png())
    put(at, "p/a.txt", ASK)
    (at / "a.png").unlink()
    return at / "p"


def below(at):
    put(at, "unpacked/images/a.png", png())
    put(at, "unpacked/samples.jsonl", lines({"image": "images/a.png", "question": ASK, "answer": "red"}))
    (at / "a.png").unlink()
    return at


def zipped(at):
    with zipfile.ZipFile(at / "s.zip", "w") as archive:
        archive.writestr("inner/images/a.png", png())
        archive.writestr("inner/s.json", json.dumps([{"image": "inner/images/a.png", "conversations": talk()}]))
    return at / "s.zip"


FORMS = {
    "JSON Lines, own form": own,
    "ShareGPT4V, LLaVA": sharegpt,
    "LLaMA-Factory, ms-swift messages": messages,
    "Chat parts, pictures inside": parts_inside,
    "Chat parts, pictures beside": parts_beside,
    "OpenAI chat": openai,
    "ms-swift query": query,
    "Alpaca with pictures": instruction,
    "CSV": csv,
    "VLMEvalKit TSV": tsv,
    "Hugging Face Parquet": parquet,
    "Folder with metadata.csv": imagefolder,
    "Pictures with .txt": captions,
    "Table one folder down": below,
    "Zip": zipped,
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_is_read(form, tmp_path):
    put(tmp_path, "a.png", png())
    (sample,) = found = read_samples(FORMS[form](tmp_path))
    assert [part["type"] for part in sample.prompt()[0]["content"]] == ["image", "text"]
    assert sample.text.split() == ASK.split() and len(sample.prompt()) == 1
    assert sample.answer == (None if form == "Pictures with .txt" else "red") and not found.errors
    assert sample.images[0].load().getpixel((0, 0)) == RED


def test_the_readme_lists_exactly_these_forms():
    table = README.read_text(encoding="utf-8").partition("<!-- forms -->")[2].partition("<!-- end -->")[0]
    assert re.findall(r"^\| \*\*(.+?)\*\* \|", table, re.MULTILINE) == list(FORMS)


def test_chats_without_pictures_need_not_say_so(tmp_path):
    put(tmp_path, "a.png", png())
    entries = [{"conversations": talk("")}, {"image": None, "question": ASK}, {"messages": said(""), "images": []}]
    found = read_samples(put(tmp_path, "s.jsonl", lines({"image": "a.png", "conversations": talk()}, *entries)))
    assert [len(sample.images) for sample in found] == [1, 0, 0, 0]


def test_repeated_ids_are_made_distinct(tmp_path):
    entries = [{"id": n, "image": None, "question": f"{place}"} for place, n in enumerate((5, 5, "5#2", 5))]
    assert [s.id for s in read_samples(put(tmp_path, "s.json", entries))] == ["5", "5#2", "5#2#2", "5#3"]


def test_every_turn_up_to_the_last_question_is_prompt(tmp_path):
    for name in ("a", "b"):
        put(tmp_path, f"{name}.png", png())
    turns = [*talk(), {"from": "human", "value": "and here?\n<image>"}, {"from": "gpt", "value": "blue"}]
    entry = {"image": ["a.png", "b.png"], "system": "be brief", "conversations": turns}
    (sample,) = read_samples(put(tmp_path, "s.json", [entry]))
    assert [turn["role"] for turn in sample.prompt()] == ["system", "user", "assistant", "user"]
    assert [part["type"] for part in sample.prompt()[3]["content"]] == ["text", "image"]
    assert sample.prompt()[2]["content"][0]["text"] == "red" and sample.answer == "blue"
    (open_end,) = read_samples(put(tmp_path, "t.json", [entry | {"conversations": turns[:3]}]))
    assert len(open_end.prompt()) == 4 and open_end.answer is None


def test_history_and_pairs_are_turns(tmp_path):
    put(tmp_path, "a.png", png())
    asked = {"query": "and it ?", "response": "b", "history": [["<image>first ?", "a"]], "images": "a.png"}
    pairs = {
        "images": ["a.png"],
        "texts": [{"user": "first ?", "assistant": "a"}, {"user": "and it ?", "assistant": "b"}],
    }
    for sample in read_samples(put(tmp_path, "s.jsonl", lines(asked, pairs))):
        assert [t["role"] for t in sample.prompt()] == ["user", "assistant", "user"]
        assert sample.answer == "b" and sample.prompt()[0]["content"][0]["type"] == "image"


@pytest.mark.parametrize(
    "entry",
    [
        {"answer": ["red", "Red", "red"]},
        {"answers": ["red", "Red"]},
        {"answers": [{"answer": "red", "answer_id": 1}, {"answer": "Red"}]},
        {"multiple_choice_answer": "red", "answers": [{"answer": "Red"}, {"answer": "red"}]},
        {"label": ["red", "Red"]},
        {"answers": {"text": ["red", "Red"], "answer_start": [1, 2]}},
    ],
)
def test_any_of_several_answers_is_right(tmp_path, entry):
    (sample,) = read_samples(put(tmp_path, "s.jsonl", lines({"image": None, "question": ASK} | entry)))
    assert sample.answer == "red" and sample.answers == ("red", "Red")


def test_options_become_the_prompt_of_vlmevalkit(tmp_path):
    small = base64.b64encode(png()).decode()
    big = io.BytesIO()
    Image.effect_noise((64, 64), 40).convert("RGB").save(big, "PNG")
    rows = [f"0\t{ASK}\tlook\tred\tblue\tA\tcolour\t{base64.b64encode(big.getvalue()).decode()}",
            f"1\t{ASK}\t\tred\tblue\tB\tcolour\t0", f"2\t{ASK}\t\t\t\tred\tshape\t{small}"]  # fmt: skip
    table = put(tmp_path, "s.tsv", "\n".join(["index\tquestion\thint\tA\tB\tanswer\tcategory\timage", *rows]))
    first, second, third = read_samples(table)
    assert first.text == (
        f"Hint: look\nQuestion: {ASK}\nOptions:\nA. red\nB. blue\n"
        "Please select the correct answer from the options above."
    )
    assert (first.id, first.answer, first.task, third.task, third.text) == ("0", "A", "colour", "shape", ASK)
    assert second.images[0].read() == first.images[0].read() == big.getvalue()  # a row that names another one's picture


@pytest.mark.parametrize(
    ("entry", "options", "answers"),
    [
        ({"choices": ["red", "blue"], "answer": 0}, "A. red\nB. blue\n", ("A", "red")),  # ScienceQA
        ({"options": "['blue', \"red\"]", "answer": "B"}, "A. blue\nB. red\n", ("B",)),  # MMMU
        ({"options": {"A": "blue", "B": "red"}, "answer": "red"}, "A. blue\nB. red\n", ("B", "red")),
        ({"choices": ["1", "2"], "answer": 2}, "A. 1\nB. 2\n", ("B", "2")),  # a number that is an option itself
        ({"choices": ["it", "is"], "answer": 0}, "A. it\nB. is\n", ("A", "it")),  # words of the question
        ({"A": "red", "B": "blue", "C": "nan", "D": None, "answer": "A"}, "A. red\nB. blue\n", ("A",)),  # MMBench
        ({"choice_a": "red", "choice_b": "blue", "answer": "A"}, "A. red\nB. blue\n", ("A",)),  # SEED-Bench
        ({"options": [], "answer": "red"}, "", ("red",)),
    ],
)
def test_options_are_asked_for_wherever_they_stand(tmp_path, entry, options, answers):
    (sample,) = read_samples(put(tmp_path, "s.jsonl", lines({"image": None, "question": ASK} | entry)))
    whole = f"Question: {ASK}\nOptions:\n{options}Please select the correct answer from the options above."
    assert sample.text == (whole if options else ASK)
    assert sample.answers == answers


def test_options_that_the_question_holds_are_not_asked_for_twice(tmp_path):
    asked = {"image": None, "question": f"{ASK}\n(A) red\n(B) blue", "choices": ["red", "blue"], "answer": 1}
    (sample,) = read_samples(put(tmp_path, "s.jsonl", lines(asked)))
    assert sample.text == asked["question"] and sample.answers == ("B", "blue")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"choices": ["red", "blue"], "answer": 2}, "'answer' is 2, but there are 2 options .the first one is 0"),
        ({"options": 3, "answer": "A"}, "'options' must be a list of texts; got 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, entry, text):
    with pytest.raises(ValueError, match=text):
        read_samples(put(tmp_path, "s.jsonl", lines({"image": None, "question": ASK} | entry)))


@pytest.mark.parametrize("named", [True, False])
def test_marks_with_numbers_say_which_picture_stands_where(tmp_path, named):
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        put(tmp_path, name, png(colour))
    pictures = {"image_1": "a.png", "image_2": "b.png", "image_3": None} if named else {"images": ["a.png", "b.png"]}
    path = put(tmp_path, "s.jsonl", lines(pictures | {"question": "is <image 2> like <image 1> or <image 2> ?"}))
    (sample,) = read_samples(path)
    kinds = [part.get("text", part["type"]) for part in sample.prompt()[0]["content"]]
    assert kinds == ["is ", "image", " like ", "image", " or ", "image", " ?"]
    assert [picture.load().getpixel((0, 0)) for picture in sample.images] == [(0, 0, 255), RED, (0, 0, 255)]
    path = put(tmp_path, "s.jsonl", lines(pictures | {"question": "what is <image 2> ?"}))
    with pytest.raises(ValueError, match="marks with numbers are <image 2>, but there are 2 pictures; every picture"):
        read_samples(path)
    assert (
        read_samples(put(tmp_path, "s.jsonl", lines({"image": None, "question": "<image 1>"})))[0].text == "<image 1>"
    )


def test_paths_in_tags_are_pictures(tmp_path):
    put(tmp_path, "a.png", png())
    turns = [{"from": "user", "value": f"Picture 1: <img>a.png</img>\n{ASK}"}, {"from": "assistant", "value": "red"}]
    (sample,) = read_samples(put(tmp_path, "s.json", [{"conversations": turns}]))
    kinds = [part.get("text", part["type"]) for part in sample.prompt()[0]["content"]]
    assert kinds == ["Picture 1: ", "image", f"\n{ASK}"] and sample.images[0].load().getpixel((0, 0)) == RED
    plain = {"messages": [{"role": "user", "content": "<img> and <img>this</img> in HTML"}]}
    assert not read_samples(put(tmp_path, "t.jsonl", lines(plain)))[0].images
    for value, text in (("<img>b.png</img>", "no picture 'b.png'"), ("<video>v.mp4</video>", "no film 'v.mp4'"),
                        ("<img>https://x.org/1</img>", "nothing is downloaded")):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            read_samples(put(tmp_path, "u.jsonl", lines({"messages": [{"role": "user", "content": value}]})))


def test_roles_of_other_makers_are_known(tmp_path):
    turns = [("developer", "be brief"), ("user", ASK), ("model", "red")]
    chat = {"messages": [{"role": role, "content": text} for role, text in turns]}
    (sample,) = read_samples(put(tmp_path, "s.jsonl", lines(chat)))
    assert [turn["role"] for turn in sample.prompt()] == ["system", "user"] and sample.answer == "red"


def test_a_system_prompt_by_its_other_name(tmp_path):
    (sample,) = read_samples(put(tmp_path, "s.json", [{"system_prompt": "be brief", "conversations": talk("")}]))
    assert [turn["role"] for turn in sample.prompt()] == ["system", "user"]


def test_a_picture_that_lies_in_the_table_comes_before_its_path(tmp_path):
    rows = [{"image": "images/1.jpg", "decoded_image": {"bytes": png(), "path": None}, "question": ASK}]  # MathVista
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    assert read_samples(tmp_path)[0].images[0].load().getpixel((0, 0)) == RED


@pytest.mark.parametrize("name", ["x.parquet", "x.json", "x.csv"])
def test_pointers_of_git_lfs_are_told_from_the_files(tmp_path, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n"
    with pytest.raises(ValueError, match=f"{name}: a Git-LFS pointer, not the file itself; run 'git lfs pull'"):
        read_samples(put(tmp_path, name, pointer))
    put(tmp_path, "a.png", pointer)
    with pytest.raises(ValueError, match=r"a.png is a Git-LFS pointer"):
        read_samples(put(tmp_path, "s.jsonl", lines({"image": "a.png", "question": ASK})))


def test_sheets_that_cannot_be_told_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"s.csv: saved as UTF-16; save it as UTF-8"):
        read_samples(put(tmp_path, "s.csv", f"image,question\na.png,{ASK}\n".encode("utf-16")))
    with pytest.raises(ValueError, match=r"s.csv: two columns are called 'question'; rename one"):
        read_samples(put(tmp_path, "s.csv", "image,question,question\na.png,a,b\n"))


def test_lists_in_cells_of_a_table(tmp_path):
    put(tmp_path, "a.png", png())
    table = put(tmp_path, "s.csv", "")
    pd.DataFrame([{"image": "a.png", "conversations": json.dumps(talk())}]).to_csv(table, index=False)
    (sample,) = read_samples(table)
    assert (sample.text, sample.answer, len(sample.images)) == (ASK, "red", 1)


def test_archives_beside_tables_without_samples_are_named(tmp_path):
    put(tmp_path, "dataset_info.json", {"features": {}})
    put(tmp_path, "data-00000-of-00001.arrow", b"x")
    with pytest.raises(ValueError, match=r"write it with Dataset\.to_parquet"):
        read_samples(tmp_path)


def test_lists_and_missing_pictures_in_parquet_and_several_shards(tmp_path):
    held = [{"bytes": png("red"), "path": None}, {"bytes": png("blue"), "path": "b.png"}]
    put(tmp_path, "c.png", png("lime"))
    rows = [{"images": held, "question": "two ?"}, {"images": [], "question": "none ?"},
            {"images": [{"bytes": None, "path": "c.png"}], "question": "a path ?"}]  # fmt: skip
    pd.DataFrame(rows).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    chat = [{"image": {"bytes": png(), "path": None}, "messages": said()}, {"image": None, "messages": said("")}]
    pd.DataFrame(chat).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    found = read_samples(tmp_path)
    colours = [[picture.load().getpixel((0, 0)) for picture in sample.images] for sample in found]
    assert colours == [[RED, (0, 0, 255)], [], [(0, 255, 0)], [RED], []]
    assert found[0].images[1].name == "b.png" and found[3].answer == "red"


def test_json_lines_in_json_and_an_array_in_jsonl(tmp_path):
    entries = [{"image": None, "question": str(n)} for n in range(3)]
    texts = {
        "lines.json": lines(*entries),
        "array.jsonl": json.dumps(entries),
        "printed.json": json.dumps(entries, indent=2),
        "one.json": json.dumps(entries[0], indent=2) + "\n" + json.dumps(entries[1]) + json.dumps(entries[2]),
        "windows.jsonl": "\ufeff" + lines(*entries).replace("\n", "\r\n\r\n") + "\r\n",
    }
    for name, text in texts.items():
        assert [s.text for s in read_samples(put(tmp_path, name, text.encode()))] == ["0", "1", "2"], name


def test_tables_that_are_no_samples_are_passed_over_and_named(tmp_path):
    put(tmp_path, "dataset_info.json", {"features": {}})
    put(tmp_path, "instances.json", {"images": [{"id": 1}], "annotations": [], "info": {}})
    put(tmp_path, "train.jsonl", lines({"image": None, "question": ASK}))
    found = read_samples(tmp_path)
    assert len(found) == 1 and not found.errors
    assert found.notes[0] == "dataset_info.json was passed over: it holds no samples."
    assert "instances.json was passed over: these are annotations of COCO" in found.notes[1]


def test_tables_in_several_folders_are_named(tmp_path):
    for folder in ("a", "b"):
        put(tmp_path, f"{folder}/s.jsonl", lines({"image": None, "question": ASK}))
    with pytest.raises(ValueError, match=r"the tables lie in several folders \(a, b\); give one of them"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("log.jsonl", {"doc_id": 0, "target": "x", "input": ASK, "doc_hash": "y"}, "line 1: this is a log of lmms"),
        ("coco.json", {"images": [{"id": 1}], "annotations": [{"caption": "x"}]}, "annotations of COCO, no samples"),
        ("caps.json", [{"image_id": 1, "caption": "x"}], "captions of COCO, no samples"),
        ("q.json", {"questions": [{"image_id": 1, "question": ASK}], "task_type": "x"}, "questions of VQA, which name"),
        ("a.json", {"annotations": [{"question_id": 1}]}, "annotations as COCO and VQA have them"),
        ("q.jsonl", {"image_id": 1, "question": ASK}, "no 'image', but 'image_id', which is not read.*the file's name"),
        ("m.jsonl", {"image_x": "a.png", "image_id_1": "b", "question": "x"}, "'image_id_1', which is not read"),
        ("s.jsonl", {"audios": ["a.wav"], "messages": said("<audio>")}, "there is no sound 'a.wav' beside the table"),
        ("g.jsonl", {"objects": {"ref": ["x"]}, "messages": said("<bbox>")}, "<bbox> stands for something in"),
        ("k.json", {"images": [{"filename": "a.png"}], "dataset": "coco"}, "Karpathy's form, no samples"),
        ("r.json", {"results": {}, "configs": {}, "versions": {}}, "results of lmms-eval, which hold no pictures"),
        ("shard.tar", b"x", "shard.tar is a tar archive .WebDataset.*Unpack it into a folder"),
        ("data.arrow", b"x", "write it with Dataset.to_parquet"),
    ],
)  # fmt: skip
def test_other_published_files_are_refused_by_name(tmp_path, name, content, text):
    path = put(tmp_path, name, content)
    with pytest.raises(ValueError, match=text):
        read_samples(path)
    if name.endswith(".tar"):
        with pytest.raises(ValueError, match=text):
            read_samples(tmp_path)
