"""llama.cpp as a program for tests: what a GGUF file answers, and how far that is from our own model's answers."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import torch


def opened(path: Path):
    """A server of the file in this process; caches in float32, plain attention, one thread."""
    import xllamacpp as engine

    params = engine.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = str(path), 512, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = engine.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.warmup, params.fit_params, params.verbosity, params.cache_prompt = False, False, 0, False
    return engine.Server(params)


def log_probabilities(server, prompts: list[list[int]], size: int) -> np.ndarray:
    """Of the next token after every prompt of ids: `[prompts, size]`."""
    found = np.full((len(prompts), size), -np.inf)
    for row, ids in zip(found, prompts, strict=True):
        asked = {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": size}
        (told,) = server.handle_completions(asked)["choices"][0]["logprobs"]["content"]
        for entry in told["top_logprobs"]:
            row[entry["id"]] = entry["logprob"]
    return found


def own_log_probabilities(loaded, prompts: list[list[int]]) -> np.ndarray:
    """The same of a loaded model: `[prompts, vocabulary]`."""
    rows = []
    for ids in prompts:
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([ids])).logits[0, -1]
        rows.append(logits.float().log_softmax(-1).numpy())
    return np.stack(rows)


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean KL(reference ‖ other) of log-probabilities `[prompts, vocabulary]`."""
    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())


def tokens(server, text: str) -> list[int]:
    """The ids that llama.cpp makes of a text, special tokens recognized (its server answers on this machine alone)."""
    asked = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    request = Request(f"{server.listening_address}/tokenize", asked, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)["tokens"]
