"""Where samples are read from: a folder on a person's own disk, or files in memory (uploads, an opened zip)."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from mode_core.samples.archives import inside
from mode_core.samples.images import MAX_IMAGE_BYTES, ImageSource, SampleError, medium
from mode_core.samples.values import told

MAX_NOTE_BYTES = 1_000_000  # a text file beside a picture
ABOVE = 5  # folders above the table in which a picture's path is looked for


class Files(Protocol):
    """Named files; names are relative, with forward slashes."""

    def names(self) -> list[str]: ...

    def below(self) -> list[str]: ...

    def open(self, name: str) -> BinaryIO: ...

    def image(self, name: str, beside: str) -> ImageSource: ...


def may_read(path: Path, within: Sequence[Path] | None) -> bool:
    """Does a path, and whatever it links to, lie in one of these (resolved) folders? None: anywhere will do."""
    return within is None or any(path.resolve().is_relative_to(folder) for folder in within)


class FolderFiles:
    """The files of one folder on disk, which is the person's own: absolute paths and links are followed.

    A picture is looked for by its whole path in `images` (where given), beside the table, and, where its path names a
    folder, in the folders above. Pictures are opened when they are needed. `within`: where it is another person who
    asks, the folders (resolved) outside of which there is nothing, wherever a path or a link leads.
    """

    def __init__(
        self,
        root: Path,
        only: tuple[str, ...] | None = None,
        images: Path | None = None,
        within: Sequence[Path] | None = None,
    ):
        self.root, self.only, self.images, self.within = root, only, images, within

    def _there(self, path: Path) -> bool:
        return may_read(path, self.within) and path.is_file()

    def names(self) -> list[str]:
        if self.only is not None:
            return list(self.only)
        return sorted(path.name for path in self.root.iterdir() if self._there(path))

    def below(self) -> list[str]:
        """The folders (with a slash at the end), and the files one folder down."""
        if self.only is not None:
            return []
        folders = sorted(path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        folders = [folder for folder in folders if may_read(folder, self.within)]
        files = [f"{folder.name}/{path.name}" for folder in folders for path in folder.iterdir() if self._there(path)]
        return sorted([f"{folder.name}/" for folder in folders] + files)

    def open(self, name: str) -> BinaryIO:
        if not may_read(self.root / name, self.within):
            raise SampleError(f"{told(name)} leads out of the folders that samples may be read from.")
        return (self.root / name).open("rb")

    def image(self, name: str, beside: str) -> ImageSource:
        try:
            path = self._found(name, self.root / posixpath.dirname(beside))
            if path.stat().st_size > MAX_IMAGE_BYTES:
                raise SampleError(f"the {medium(name)} {told(name)} has more than {MAX_IMAGE_BYTES / 1e6:.0f} MB.")
        except (OSError, ValueError) as failure:  # a name that no disk takes: too long, half a character, NUL
            if isinstance(failure, SampleError):
                raise
            reason = getattr(failure, "strerror", None) or type(failure).__name__
            raise SampleError(f"the {medium(name)} {told(name)} cannot be read ({reason}). Correct the path.") from None
        return ImageSource(name, path=path)

    def _found(self, name: str, folder: Path) -> Path:
        plain = Path(name.replace("\\", "/"))
        near = [*([self.images] if self.images else []), folder]
        if (found := next((place / plain for place in near if self._there(place / plain)), None)) is not None:
            return found
        above = folder.resolve().parents[:ABOVE] if len(plain.parts) > 1 else ()
        places = {(place / plain).resolve(): place / plain for place in above if self._there(place / plain)}
        if len(places) > 1:
            listed = " and ".join(str(place) for place in places.values())
            raise SampleError(f"the {medium(name)} {told(name)} could be {listed}. Say which with --images FOLDER.")
        if not places:
            where = f"in {self.images} or " if self.images else ""
            raise SampleError(
                f"there is no {medium(name)} {told(name)} {where}beside the table. Correct the path, give the folder "
                "that it begins in with --images, or drop the line."
            )
        return next(iter(places.values()))


class MemoryFiles:
    """Files that were uploaded, or come from a zip; nothing outside them is touched.

    A picture is found by its whole path, beside the table or above it. Browsers send files without their folders: files
    that came so (`flat`) are also found by their bare name. `asked[name]` are the paths that a flat file was taken for;
    where there are several of them it was the wrong one for some.
    """

    def __init__(self, files: Mapping[str, bytes], flat: frozenset[str] = frozenset()):
        self.files = {inside(name): data for name, data in files.items()}
        self.flat, self.asked = flat, dict[str, set[str]]()

    def names(self) -> list[str]:
        return sorted(self.files)

    def below(self) -> list[str]:
        return []

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.files[name])

    def image(self, name: str, beside: str) -> ImageSource:
        folder = posixpath.dirname(beside)
        place = asked = inside(name, folder)
        while place not in self.files and folder and "/" in name:
            folder = posixpath.dirname(folder)
            place = posixpath.normpath(posixpath.join(folder, name))
        if place not in self.files and posixpath.basename(asked) in self.flat:
            place = posixpath.basename(asked)
        if place in self.flat:
            self.asked.setdefault(place, set()).add(asked)
        if place not in self.files:
            raise SampleError(f"the {medium(name)} {told(name)} was not uploaded, or lies in another folder. Add it.")
        if len(self.files[place]) > MAX_IMAGE_BYTES:
            raise SampleError(f"the {medium(name)} {told(name)} has more than {MAX_IMAGE_BYTES / 1e6:.0f} MB.")
        return ImageSource(name, data=self.files[place])
