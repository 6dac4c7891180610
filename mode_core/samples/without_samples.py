"""Published files that hold no samples, known by their keys: each is refused by name, with what to do."""

from __future__ import annotations

from collections.abc import Collection

_LINE = '{"image": "train2017/000000000042.jpg", "question": "…", "answer": "…"}'
_JOIN = f"Join it with the pictures' file names, one line for each question: {_LINE}."

KNOWN: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"doc_id", "doc_hash"}),
        "this is a log of lmms-eval (--log_samples), which holds no pictures. Give the data set that it was made of.",
    ),
    (
        frozenset({"doc_id", "target"}),
        "this is a log of lmms-eval (--log_samples), which holds no pictures. Give the data set that it was made of.",
    ),
    (frozenset({"questions", "task_type"}), f"these are questions of VQA, which name pictures by number. {_JOIN}"),
    (frozenset({"questions"}), f"this is a file of questions as VQA has it, no list of samples. {_JOIN}"),
    (frozenset({"images", "annotations"}), f"these are annotations of COCO, no samples. {_JOIN}"),
    (frozenset({"images", "dataset"}), f"these are captions of COCO in Karpathy's form, no samples. {_JOIN}"),
    (
        frozenset({"results", "versions"}),
        "these are results of lmms-eval, which hold no pictures. Give the data set that was evaluated.",
    ),
    (frozenset({"annotations"}), f"these are annotations as COCO and VQA have them, no samples. {_JOIN}"),
    (frozenset({"image_id", "caption"}), f"these are captions of COCO, no samples. {_JOIN}"),
    (frozenset({"question_id", "image_id"}), f"these are annotations of VQA, no samples. {_JOIN}"),
)


def foreign(keys: Collection[object]) -> str | None:
    """What an object with these keys is, where it is known to be no sample, and what to do; else None."""
    return next((told for held, told in KNOWN if held <= set(map(str, keys))), None)


ARCHIVES = (".tar", ".tar.gz", ".tgz")


def foreign_file(name: str) -> str | None:
    """The same for a file, by its name."""
    lower = name.lower()
    if lower.endswith(ARCHIVES):
        return (
            f"{name} is a tar archive (WebDataset?), which is not read. Unpack it into a folder: pictures with a .txt "
            "of the same name, or with a table, are read from there."
        )
    if lower.endswith(".arrow"):
        return f"{name} is an Arrow file of datasets.save_to_disk; write it with Dataset.to_parquet, and give that."
    return None
