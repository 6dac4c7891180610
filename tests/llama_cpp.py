"""llama.cpp as a program for tests: what a GGUF file answers, and how far that is from our own model's answers.

It runs in a process of its own (`python -m tests.llama_cpp FILE`), since a file that it cannot take can end it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def ask(path: Path, completions: list[dict[str, Any]] = (), texts: list[str] = ()) -> dict[str, list]:
    """What the server of the file answers to completion requests, and the ids that it makes of texts (special tokens
    recognized)."""
    asked = json.dumps({"completions": list(completions), "texts": list(texts)})
    command = [sys.executable, "-m", "tests.llama_cpp", str(path)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, f"llama.cpp ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def log_probabilities(path: Path, prompts: list[list[int]], size: int) -> np.ndarray:
    """Of the next token after every prompt of ids: `[prompts, size]`."""
    import numpy as np

    found = np.full((len(prompts), size), -np.inf)
    asked = [{"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": size} for ids in prompts]
    for row, answer in zip(found, ask(path, asked)["completions"], strict=True):
        for token, value in answer["first"]:
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


def opened(path: str):
    """A server of the file in this process; caches in float32, plain attention, one thread."""
    import xllamacpp as engine

    params = engine.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = path, 512, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = engine.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup, params.fit_params, params.cache_prompt = False, False, False
    return engine.Server(params)


def _completed(answer: dict[str, Any]) -> dict[str, Any]:
    (choice,) = answer["choices"]
    content = (choice.get("logprobs") or {}).get("content") or [{}]
    first = [(entry["id"], entry["logprob"]) for entry in content[0].get("top_logprobs", ())]
    return {"text": choice["text"], "usage": answer["usage"], "first": first}


def _tokens(server, text: str) -> list[int]:
    asked = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    request = Request(f"{server.listening_address}/tokenize", asked, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)["tokens"]


if __name__ == "__main__":
    wanted, running = json.load(sys.stdin), opened(sys.argv[1])
    answers = [_completed(running.handle_completions(request)) for request in wanted["completions"]]
    print("\n" + json.dumps({"completions": answers, "tokens": [_tokens(running, text) for text in wanted["texts"]]}))
