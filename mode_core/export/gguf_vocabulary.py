"""A tokenizer's vocabulary in a GGUF file.

Byte-level BPE, which all families written here publish, goes in whole (`gpt2`, with the name of its way to cut text).
A word-level tokenizer has no form there: its words are written so that answers can be read, and prompts must be ids.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mode_core.export.folder import ExportError

if TYPE_CHECKING:
    from gguf import GGUFWriter

LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS = {  # the pattern by which a tokenizer cuts text -> llama.cpp's name of it
    LETTERS + r"\p{N}" + REST: "qwen2",
    LETTERS + r"\p{N}{1,3}" + REST: "llama-bpe",
    "": "gpt-2",  # the byte-level step's own
}
IDS_ALONE = (
    "The tokenizer is word-level, which llama.cpp does not have: give it prompts as token ids. Its words are in the "
    "file, so answers read as text."
)


def add_vocabulary(writer: GGUFWriter, folder: Path, size: int) -> tuple[str, ...]:
    """Write tokens, their kinds, merges, special ids and the chat template; returns what a reader must know.

    `folder` is the model's, `size` the rows of its embedding: ids that the tokenizer lacks are marked unused.

    Raises:
        ExportError: no tokenizer.json; a kind of tokenizer that is not written here.
    """
    from gguf import SpecialVocab

    try:
        record = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        kind, vocabulary = record["model"]["type"], record["model"]["vocab"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as broken:
        raise ExportError(f"{folder} has no readable tokenizer.json ({broken}); a GGUF file needs one.") from None
    if kind not in ("BPE", "WordLevel"):
        raise ExportError(f"Tokenizers of the kind {kind} are not written to GGUF files here (but BPE, WordLevel).")
    words = kind == "WordLevel"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2" if words else _cut(record))
    tokens, kinds = _tokens(record, vocabulary, size, words)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if words:
        writer.add_token_merges([f"{_as_bytes('a')} {_as_bytes('b')}"])  # llama.cpp refuses a file without any
    SpecialVocab(folder, load_merges=not words, n_vocab=size).add_to_gguf(writer, quiet=True)
    return (IDS_ALONE,) if words else ()


def _cut(record: dict[str, Any]) -> str:
    """llama.cpp's name of how a tokenizer cuts text before it merges.

    Raises:
        ExportError: a way that is not known here: a wrong name would cut text otherwise than the model was trained on.
    """
    steps = record.get("pre_tokenizer") or {}
    parts = steps.get("pretokenizers", [steps])
    if not any(part.get("type") == "ByteLevel" for part in parts):
        raise ExportError("The tokenizer is BPE, but not byte-level, which is not written to GGUF files here.")
    patterns = [part["pattern"].get("Regex", "") for part in parts if part.get("type") == "Split"]
    if (name := CUTS.get("".join(patterns))) is None:
        raise ExportError(
            f"The tokenizer cuts text by {patterns}, which is not known here under a name of llama.cpp's; use "
            "'dequantized' with llama.cpp's convert_hf_to_gguf.py."
        )
    return name


def _tokens(record: dict[str, Any], vocabulary: dict[str, int], size: int, words: bool) -> tuple[list[str], list[int]]:
    from gguf import TokenType

    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(TokenType.UNUSED)] * size
    for text, number in vocabulary.items():
        tokens[number] = _as_bytes(f" {text}") if words else text
        kinds[number] = int(TokenType.NORMAL)
    for added in record.get("added_tokens") or ():
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = int(TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED)
    return tokens, kinds


def _as_bytes(text: str) -> str:
    """Text as byte-level tokenizers spell it: one printable character a byte."""
    from gguf.vocab import bytes_to_unicode

    table = bytes_to_unicode()
    return "".join(table[byte] for byte in text.encode())
