"""llama.cpp as a program for tests: what a GGUF file answers, and how far that is from our own model's answers.

It runs in a process of its own (`python -m tests.llama_cpp FILE`), since a file that it cannot take can end it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def ask(
    path: Path,
    completions: list[dict[str, Any]] = (),
    texts: list[str] = (),
    eyes: Path | None = None,
    views: list[dict[str, Any]] = (),
) -> dict[str, list]:
    """What the server of the file answers to completion requests, the ids that it makes of texts (special tokens
    recognized), and with its vision file (`eyes`) what it says of the next token of `views`, each `before` a picture,
    the `picture`'s path, what comes `after`, and the id of a `token` to answer with that is whole by itself."""
    asked = json.dumps({"completions": list(completions), "texts": list(texts), "views": list(views)})
    command = [sys.executable, "-m", "tests.llama_cpp", str(path), *([str(eyes)] if eyes else [])]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, f"llama.cpp ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def log_probabilities(path: Path, prompts: list[list[int]], size: int) -> np.ndarray:
    """Of the next token after every prompt of ids: `[prompts, size]`."""
    asked = [{"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": size} for ids in prompts]
    return filled([answer["first"] for answer in ask(path, asked)["completions"]], size)


def filled(answers: list[list[tuple[int, float]]], size: int) -> np.ndarray:
    """Log-probabilities `[answers, size]` of (id, log-probability) pairs."""
    import numpy as np

    found = np.full((len(answers), size), -np.inf)
    for row, answer in zip(found, answers, strict=True):
        for token, value in answer:
            row[token] = value
    return found


def own_log_probabilities(loaded, prompts: list[list[int]]) -> np.ndarray:
    """The same of a loaded model: `[prompts, vocabulary]`."""
    import numpy as np
    import torch

    rows = []
    for ids in prompts:
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        rows.append(logits.float().log_softmax(-1).numpy())
    return np.stack(rows)


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean KL(reference ‖ other) of log-probabilities `[prompts, vocabulary]`."""
    import numpy as np

    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())


def opened(path: str, eyes: str = ""):
    """A server of the file in this process, and of its vision file; caches in float32, plain attention, one thread."""
    import xllamacpp as engine

    params = engine.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = path, 512, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = engine.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.mmproj.path, params.mmproj_use_gpu = eyes, False
    params.warmup, params.fit_params, params.cache_prompt = False, False, False
    return engine.Server(params)


def _completed(answer: dict[str, Any]) -> dict[str, Any]:
    (choice,) = answer["choices"]
    content = (choice.get("logprobs") or {}).get("content") or [{}]
    first = [(entry["id"], entry["logprob"]) for entry in content[0].get("top_logprobs", ())]
    return {"text": choice["text"], "usage": answer["usage"], "first": first}


def _told(server, where: str, asked: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the server answers at an address of its own interface."""
    sent = None if asked is None else json.dumps(asked).encode()
    request = Request(f"{server.listening_address}/{where}", sent, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _tokens(server, text: str) -> list[int]:
    return _told(server, "tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]


def _seen(server, view: dict[str, Any]) -> list[tuple[int, float]]:
    """The whole vocabulary's log-probabilities, which the choice of the token does not change."""
    picture = base64.b64encode(Path(view["picture"]).read_bytes()).decode()
    prompt = view["before"] + _told(server, "props")["media_marker"] + view["after"]
    asked = {"prompt": {"prompt_string": prompt, "multimodal_data": [picture]}, "n_predict": 1, "temperature": 0}
    answer = _told(server, "completion", asked | {"n_probs": 1 << 20, "logit_bias": [[view["token"], 1e4]]})
    return [(entry["id"], entry["logprob"]) for entry in answer["completion_probabilities"][0]["top_logprobs"]]


if __name__ == "__main__":
    wanted, running = json.load(sys.stdin), opened(*sys.argv[1:])
    found = {
        "completions": [_completed(running.handle_completions(request)) for request in wanted["completions"]],
        "tokens": [_tokens(running, text) for text in wanted["texts"]],
        "views": [_seen(running, view) for view in wanted["views"]],
    }
    print("\n" + json.dumps(found))
