"""Read samples from a folder, a table or a zip: all, the first, or some drawn evenly; each with its own error."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mode_core.modalities import AUDIO_TOKENS, TEXT_TOKENS, VISION_TOKENS
from mode_core.samples.archives import unzip
from mode_core.samples.drawing import Draw, Stratum
from mode_core.samples.entries import sample_from_entry, stratum
from mode_core.samples.files import MAX_NOTE_BYTES, Files, FolderFiles, MemoryFiles, may_read
from mode_core.samples.images import LONE_SUFFIXES, medium
from mode_core.samples.records import AudioSource, ImageSource, Sample, SampleError, VideoSource
from mode_core.samples.tables import TABLE_SUFFIXES, entries, nothing_to_read, sample_tables
from mode_core.samples.without_samples import foreign_file

MAX_SAMPLES = 2_000_000


class SampleList(list[Sample]):
    """Samples that were read. `errors`: what was left out, in words, with file and line; `notes`: what else a person
    should know (tables that were passed over); `drawn`: how these were chosen where they are not all; `origin`: the
    arguments of `read_samples` that give the same ones again, None where they came otherwise."""

    def __init__(self, samples: list[Sample] | None = None, errors: list[str] | None = None):
        super().__init__(samples or [])
        self.errors: list[str] = errors or []
        self.notes: list[str] = []
        self.drawn: dict[str, int | str] | None = None
        self.origin: dict[str, str | int | bool | None] | None = None
        self.places: list[int] = []  # of every sample among all entries that were read

    def draw(self, limit: int, seed: int = 0) -> SampleList:
        """At most `limit` of these, drawn as `read_samples` draws: the same ones, whatever was left out."""
        draw, places = Draw(limit, seed), self.places or list(range(len(self)))
        for place, sample in zip(places, self, strict=True):
            while draw.offered < place:
                draw.skip()
            draw.offer((sample.task or "", sample.modality != TEXT_TOKENS), sample)
        chosen = draw.chosen(lambda place, sample: sample)
        found = SampleList([sample for _, sample in chosen], self.errors)
        found.places, found.notes = [place for place, _ in chosen], self.notes
        found.drawn = {"by": "task and picture", "seed": seed, "of": len(self)}
        if self.origin is not None and self.origin["limit"] is None:
            found.origin = self.origin | {"limit": limit, "seed": seed}
        return found

    def mix(self) -> dict[str, dict[str, int]]:
        """How many there are of each task, with pictures, with sounds, and without either."""
        kinds = {"with pictures": VISION_TOKENS, "with sounds": AUDIO_TOKENS, "without pictures": TEXT_TOKENS}
        counts = {
            kind: Counter(sample.task or "no task named" for sample in self if sample.modality == modality)
            for kind, modality in kinds.items()
        }
        return {kind: dict(sorted(found.items())) for kind, found in counts.items() if found}


def read_samples(
    path: str | Path,
    images: str | Path | None = None,
    on_error: str = "raise",
    limit: int | None = None,
    first: bool = False,
    seed: int = 0,
    within: Sequence[Path] | None = None,
) -> SampleList:
    """Samples from a folder, a table (JSON, JSON Lines, CSV, TSV, Parquet) or a zip of these.

    A folder holds `samples.jsonl`, or any tables (also one folder down), or pictures, sounds and films with a text
    file of the same name each. Pictures are looked at, but decoded only when they are used. An id that occurs again
    becomes `id#2`.

    Args:
        images: the folder that the pictures' paths begin in, where it is not the table's own or one above it.
        on_error: "raise" at the first bad sample, or "collect" bad ones in the list's `.errors`.
        limit: at most so many, drawn evenly by task and by having a picture, with `seed`; another one takes the place
            of one that turns out bad. The whole table is passed over once, and only what can be drawn is kept.
        first: with `limit`, the first ones instead; nothing after them is read.
        within: resolved folders outside of which nothing is read, wherever a path or a link leads; None: no limits.

    Raises:
        SampleError: nothing to read, a bad sample (with "raise"), or none good (with "collect").
    """
    path, folder = Path(path), None if images is None else Path(images)
    if not may_read(path, within) or not path.exists():
        raise SampleError(
            f"There is nothing at {path}. Give a folder of samples, a zip, or a file: {', '.join(TABLE_SUFFIXES)}."
        )
    if folder is not None and not folder.is_dir():
        raise SampleError(f"There is no folder {folder} (--images). Give the folder that the pictures' paths begin in.")
    draw = {"limit": limit, "first": first, "seed": seed}
    found = samples_of(*_files_at(path, folder, within), on_error, **draw)
    found.origin = {"path": str(path), "images": None if folder is None else str(folder), **draw}
    return found


def _files_at(path: Path, images: Path | None, within: Sequence[Path] | None) -> tuple[Files, str]:
    """The files of a folder, a zip or one table, and what to call them."""
    if path.is_dir():
        return FolderFiles(path, images=images, within=within), str(path)
    if path.suffix.lower() == ".zip":
        return MemoryFiles(unzip(path.name, path)), path.name
    if told := foreign_file(path.name):
        raise SampleError(told)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise SampleError(f"{path.name} is no table of samples; use {', '.join(TABLE_SUFFIXES)}, .zip, or a folder.")
    return FolderFiles(path.parent, (path.name,), images, within), path.name


def samples_of(
    files: Files,
    called: str = "the files",
    on_error: str = "raise",
    limit: int | None = None,
    first: bool = False,
    seed: int = 0,
) -> SampleList:
    """Samples from named files: their tables, or else pictures with a text file each. See `read_samples`."""
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error must be 'raise' or 'collect'; got {on_error!r}.")
    work = _Reading(SampleList(), on_error)
    attempts = _attempts(files, called, work.found.notes)
    draw = None if limit is None else Draw(limit, seed)
    if draw is None or first:
        _take(work, attempts, called, limit)
    else:
        _take_drawn(work, attempts, draw)
    if not work.found:
        errors = work.found.errors
        more = f" First of {len(errors)} errors: {errors[0]}" if errors else ""
        raise SampleError(f"{called} holds no usable sample.{more}")
    return work.found


@dataclass(frozen=True)
class _Attempt:
    """Something that looks like a sample: where it stands, what it counts as, and how to make it. `broken` is what
    stands in its place where it cannot even be read."""

    where: str
    stratum: Stratum = ("", False)
    make: Callable[[], Sample] | None = None
    broken: SampleError | None = None


class _Reading:
    def __init__(self, found: SampleList, on_error: str):
        self.found, self.on_error = found, on_error
        self.seen: Counter[str] = Counter()

    def made(self, place: int, attempt: _Attempt) -> Sample | None:
        """The sample, or None where it is refused; the reason is kept, or raised."""
        try:
            if attempt.broken is not None:
                raise attempt.broken
            return attempt.make()
        except SampleError as refused:
            text = f"{attempt.where}: {refused}" if attempt.where else str(refused)
            if self.on_error == "raise":
                raise SampleError(text) from None
            self.found.errors.append(text)
            return None

    def add(self, place: int, sample: Sample) -> None:
        """Keep it, under an id of its own."""
        plain, name = sample.id, sample.id
        while name in self.seen:
            self.seen[plain] += 1
            name = f"{plain}#{self.seen[plain]}"
        self.seen[name] = 1
        self.found.append(sample if name == plain else replace(sample, id=name))
        self.found.places.append(place)


def _take(work: _Reading, attempts: Iterator[_Attempt], called: str, limit: int | None) -> None:
    for place, attempt in enumerate(attempts):
        if (sample := work.made(place, attempt)) is not None:
            work.add(place, sample)
        if len(work.found) == limit:
            work.found.drawn = {"by": "the first"}
            return
        if len(work.found) > MAX_SAMPLES:
            raise SampleError(f"{called} holds more than {MAX_SAMPLES:,} samples; take some of them with --limit.")


def _take_drawn(work: _Reading, attempts: Iterator[_Attempt], draw: Draw[_Attempt]) -> None:
    for place, attempt in enumerate(attempts):
        if attempt.broken is None:
            draw.offer(attempt.stratum, attempt)
        else:
            work.made(place, attempt)
            draw.skip()
    for place, sample in draw.chosen(work.made):
        work.add(place, sample)
    work.found.drawn = {"by": "task and picture", "seed": draw.seed, "of": draw.offered}


def _attempts(files: Files, called: str, notes: list[str]) -> Iterator[_Attempt]:
    """Everything that looks like a sample."""
    tables = sample_tables(files, notes)
    if not tables:
        yield from _captioned(files, files.names(), called)
    for table in tables:
        for where, entry in entries(table, files):
            if isinstance(entry, SampleError):
                yield _Attempt(where, broken=entry)
            else:
                make = lambda e=entry, t=table: sample_from_entry(e, lambda name: files.image(name, t))  # noqa: E731
                yield _Attempt(where, stratum(entry), make)


def _captioned(files: Files, names: list[str], called: str) -> Iterator[_Attempt]:
    """Pictures, sounds and films with a text file of the same name."""
    media = [name for name in names if name.lower().endswith(LONE_SUFFIXES)]
    if not media:
        yield _Attempt("", broken=SampleError(nothing_to_read(called, [*names, *files.below()])))
    for name in media:
        note = f"{posixpath.splitext(name)[0]}.txt"
        if note not in names:
            reason = f"no text for this {medium(name)}; write its question into {note}."
            yield _Attempt(name, broken=SampleError(reason))
            continue
        make = lambda name=name, note=note: lone_sample(files.image(name, ""), _note(files, note))  # noqa: E731
        yield _Attempt(name, ("", True), make)


def _note(files: Files, name: str) -> str:
    with files.open(name) as stream:
        text = stream.read(MAX_NOTE_BYTES)
    try:
        return text.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise SampleError(f"{name} is not readable as UTF-8 text.") from None


def lone_sample(file: ImageSource, text: str) -> Sample:
    """One picture, sound or film and one question."""
    field, source = {
        "picture": ("images", file),
        "sound": ("audio", AudioSource(file)),
        "film": ("videos", VideoSource(file.name, film=file) if medium(file.name) == "film" else None),
    }[medium(file.name)]
    source.check()
    return Sample(**{"images": (), "messages": ({"role": "user", "content": text},), field: (source,)})
