"""A synthetic run of any size, for tests and benchmarks: labelled as that wherever the screen names the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mode_core.runs.run import Run, TokenScores
from mode_core.runs.token_routes import TokenRoutes
from mode_core.statistics import ExpertStatistics
from tests.synthetic import synthetic_statistics

LABEL = "synthetic, for tests"
GRID = (12, 16)  # tokens down and across each picture


def without_vision(statistics: ExpertStatistics) -> ExpertStatistics:
    """The same as if no sample had had a picture."""
    banks = {
        name: replace(bank, arrays={key: 0 * array if "vision" in key else array for key, array in bank.arrays.items()})
        for name, bank in statistics.banks.items()
    }
    return replace(statistics, banks=banks)


def keep_run(folder: Path, statistics: ExpertStatistics) -> Run:
    """A finished run of these statistics in a new folder, without pictures."""
    settings = dict(statistics.settings) | {"model": LABEL, "group_size": 32, "symmetric": True}
    count = len(statistics.samples)
    samples = {"given": count, "measured": count, "digest": "synthetic"}
    run = Run.create(folder, model={"source": LABEL}, samples=samples, seconds=1.0)
    run.write_statistics(replace(statistics, settings=settings), state="done")
    return run


def add_pictures(run: Run, count: int = 3, seed: int = 0) -> None:
    """Keep `count` drawn pictures with random token scores for every bank and signal, and random routes of nine words
    and the picture."""
    draw = np.random.default_rng(seed)
    statistics, tokens = run.statistics, GRID[0] * GRID[1]
    (run.path / "thumbnails").mkdir()
    records, scores, routes = [], [], []
    for number in range(count):
        pixels = draw.integers(0, 255, (GRID[0], GRID[1], 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((384, 288), Image.Resampling.BILINEAR)
        picture.save(run.path / "thumbnails" / f"{number:03d}-0.png")
        sample = statistics.samples[number]
        records.append(
            {"id": sample, "text": f"synthetic question {number}", "answer": "none", "task": "synthetic",
             "text_tokens": 9, "vision_tokens": tokens, "images": [f"{number}.png"],
             "thumbnails": [f"{number:03d}-0.png"], "grids": [list(GRID)]}
        )  # fmt: skip
        drawn = {name: draw.gamma(0.5, size=(len(statistics.banks), tokens)) for name in statistics.signals}
        scores.append(TokenScores(sample, tuple(statistics.banks), drawn, (GRID,)))
        routes.append(drawn_routes(sample, statistics, draw))
    run.write_samples(records, scores, routes)


def drawn_routes(sample: str, statistics: ExpertStatistics, draw: np.random.Generator, top_k: int = 8) -> TokenRoutes:
    """Any eight experts (all of them in smaller banks) with any weights, for a picture between words."""
    sizes = tuple(bank.shape.experts for bank in statistics)
    words = ("<|im_start|>", "user", "<|vision_start|>", *[""] * (GRID[0] * GRID[1]), "<|vision_end|>", "synthetic",
             " question", " of", " some", " words")  # fmt: skip
    shape, k = (len(sizes), len(words)), min(top_k, *sizes)
    order = np.argsort(draw.random((*shape, min(sizes))), axis=2)[..., :k]
    weights = -np.sort(-draw.dirichlet(np.ones(k), shape), axis=2)
    template = np.array(["<" in word or word == "user" for word in words])
    return TokenRoutes(
        sample, tuple(statistics.banks), sizes, len(words), words, np.array([not word for word in words]), template,
        order.astype(np.uint16), weights.astype(np.float16), draw.uniform(1, np.log2(min(sizes)), shape),
    )  # fmt: skip


def synthetic_run(
    folder: Path,
    banks: int = 48,
    experts: int = 128,
    signals: tuple[str, ...] = ("text_attention",),
    pictures: int = 3,
    tokens: int = 20_000,
    tasks: int = 18,
) -> Run:
    """A finished run of `banks` × `experts` with pictures and so many tasks, seed 0; 48 × 128 takes about 350 MB."""
    made = synthetic_statistics(banks, experts, signals=signals, tokens=tokens, unsupported=1, tasks=tasks)
    run = keep_run(folder, made)
    add_pictures(run, pictures)
    return run
