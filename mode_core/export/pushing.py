"""An export uploaded to the hub, as it was written: only what is asked for, after every file was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mode_core.errors import ExportError
from mode_core.export.card import CARD, HUB_ID
from mode_core.export.folder import FORMAT, MANIFEST
from mode_core.export.manifest import checksum
from mode_core.json_files import check_format, read_json
from mode_core.yaml_files import front_matter

TOKEN_HELP = "Sign in with 'hf auth login', or set HF_TOKEN, with a token that may write there."


@dataclass(frozen=True)
class Pushed:
    """What lies on the hub now: the commit's address, its files, and how many bytes."""

    address: str
    files: tuple[str, ...]
    bytes: int


def push(
    folder: str | Path,
    repository: str,
    *,
    public: bool = False,
    message: str | None = None,
    endpoint: str | None = None,
) -> Pushed:
    """Upload an export to the repository `owner/name` of the hub, which is made (private unless `public`) where there
    is none. The token is huggingface_hub's own: of `hf auth login` or HF_TOKEN.

    Raises:
        ExportError: no export, or one whose files are not those of its manifest; a card without licence or original
            for a public repository; a hub that refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

    place = Path(folder)
    manifest = checked_export(place)
    if not HUB_ID.fullmatch(repository):
        raise ExportError(f"A repository is named 'owner/name'; got {repository!r}.")
    if public and (place / CARD).is_file():
        _check_card(place / CARD)
    api, files = HfApi(endpoint=endpoint), [*manifest["files"], MANIFEST]
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        told = message or f"{manifest['title']} ({manifest['allocation']['average_bits']:.2f} bits on average)"
        commit = api.upload_folder(
            repo_id=repository, folder_path=place, commit_message=told, allow_patterns=[_plain(name) for name in files]
        )
    except LocalTokenNotFoundError:
        raise ExportError(f"The hub takes nothing without a token. {TOKEN_HELP}") from None
    except HfHubHTTPError as refused:
        help_ = f" {TOKEN_HELP}" if refused.response.status_code in (401, 403) else ""
        raise ExportError(f"The hub refused {repository}: {' '.join(str(refused).split())[:400]}.{help_}") from None
    except HTTPError as away:
        raise ExportError(f"The hub at {api.endpoint} does not answer ({away}). Nothing was uploaded.") from None
    return Pushed(commit.commit_url, tuple(files), manifest["bytes"] + (place / MANIFEST).stat().st_size)


def checked_export(folder: Path) -> Mapping[str, Any]:
    """The manifest of an export whose files are the ones that it names.

    Raises:
        ExportError: no export, or a file that is missing, changed or was put there later.
    """
    record = read_json(folder / MANIFEST, ExportError)
    check_format(record, FORMAT, folder / MANIFEST, ExportError, "manifest")
    named = record.get("files")
    if not isinstance(named, dict) or not {"title", "allocation", "bytes"} <= set(record):
        raise ExportError(f"{folder / MANIFEST} is damaged: it names no files. Export again.")
    here = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    for name in sorted(here ^ set(named)):
        what = "was put there after the export; take it away" if name in here else "is missing; export again"
        raise ExportError(f"{folder / name} {what}.")
    for name, told in named.items():
        if name != CARD and checksum(folder / name) != told.get("sha256"):  # a person may add to the card
            raise ExportError(f"{folder / name} is not what was written ({MANIFEST} has its checksum); export again.")
    return record


def _check_card(path: Path) -> None:
    head = front_matter(path, ExportError)
    if missing := [name for name in ("base_model", "license") if name not in head]:
        raise ExportError(
            f"{path} names no {' and no '.join(missing)}, which a public model needs; write it at the head of the "
            "card, or leave --public out."
        )


def _plain(name: str) -> str:
    """A file's name as a pattern that matches it alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
