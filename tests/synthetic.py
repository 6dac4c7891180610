"""Synthetic statistics of any size, seeded: for tests and benchmarks only, never shown as a measurement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mode_core.modalities import MODALITIES
from mode_core.statistics import BINS, FOLDS, BankShape, BankStatistics, ExpertStatistics


def synthetic_statistics(
    banks: int = 48,
    experts: int = 128,
    bits: tuple[int, ...] = (2, 3, 4),
    signals: tuple[str, ...] = ("text_attention",),
    seed: int = 0,
    tokens: int = 20_000,
    hidden: int = 64,
    intermediate: int = 48,
    top_k: int = 2,
    unsupported: int = 0,
    extras: tuple[str, ...] = (),
    tasks: int = 0,
) -> ExpertStatistics:
    """Statistics as a router with two biases would leave them: text and vision prefer different experts, and
    redundant vision tokens crowd onto a few. Errors fall about fourfold per bit, with noise.

    `tokens` vision tokens per bank (a fifth as many text tokens), spread over folds and bins; the last
    `unsupported` experts of each bank get none at all. `extras` ("gradients", "hessian", "logit_kl") are drawn after
    all else, so that the rest does not depend on them, and the selections dealt to `tasks` after these. Settings say
    that it is synthetic.
    """
    draw = np.random.default_rng(seed)
    shape = {"experts": experts, "hidden": hidden, "intermediate": intermediate, "top_k": top_k}
    made = {}
    for layer in range(banks):
        name = f"model.language_model.layers.{layer}.mlp.experts"
        bank = BankStatistics.empty(name, BankShape(layer, **shape), bits, signals, extras=extras)
        _fill_weights(bank, draw, bits)
        alive = np.arange(experts) < experts - unsupported
        text = _preference(draw, alive, 1.0)
        _fill(bank, draw, "text", text * tokens / 5 / FOLDS, bits)
        for signal in signals:
            key, redundant = _preference(draw, alive, 1.0), _preference(draw, alive, 2.0)
            blend = np.linspace(0, 1, BINS)
            share = key[:, None] * (1 - blend) + redundant[:, None] * blend
            _fill(bank, draw, "vision", share * tokens / FOLDS / BINS, bits, f"/{signal}")
        bank.arrays["input_tokens"][:] = tokens * 1.2 / FOLDS
        bank.arrays["input_energy"][:] = tokens * 1.2 / FOLDS * hidden
        made[name] = bank
    for bank in made.values():
        _fill_extras(bank, draw, signals)
    samples = tuple(f"synthetic-{number}" for number in range(4 * FOLDS))
    settings: dict = {"model": "synthetic, for tests", "seed": seed}
    if "logit_kl" in extras:
        settings["logit_kl"] = {"key_ratio": 0.2, "signal": signals[0], "positions": "last"}
    return ExpertStatistics(made, bits, signals, settings, samples, _by_task(made, draw, signals, tasks))


def _by_task(
    made: dict[str, BankStatistics], draw: np.random.Generator, signals: tuple[str, ...], tasks: int
) -> dict[str, np.ndarray]:
    """Every selection belongs to one task, which has experts of its own liking; text and vision tokens alone."""
    dealt = []
    for bank in made.values() if tasks else ():
        liking = draw.gamma(0.7, size=(bank.shape.experts, tasks)) * np.linspace(2, 0.05, tasks)
        counts = [bank.total("text_selections"), bank.total(f"vision_selections/{signals[0]}").sum(axis=-1)]
        dealt.append(
            [draw.multinomial(held.astype(int), liking / liking.sum(axis=1, keepdims=True)) for held in counts]
        )
    found = np.moveaxis(np.array(dealt, float), 3, 0) if tasks else ()
    return {f"task {n}": np.concatenate([one, 0 * one[:, :1]], axis=1) for n, one in enumerate(found)}


def with_audio(statistics: ExpertStatistics) -> ExpertStatistics:
    """The same, and half as many audio tokens as vision tokens, which prefer the experts in reverse."""
    banks = {}
    for name, bank in statistics.banks.items():
        fresh = {}
        for key, array in bank.having(MODALITIES).arrays.items():
            if key.startswith("audio_"):
                seen = bank.arrays[key.replace("audio_", "vision_", 1)]
                array = seen / 2 if seen.ndim < 3 else seen[:, ::-1] / 2
            fresh[key] = array
        banks[name] = replace(bank, arrays=fresh)
    return replace(statistics, banks=banks)


def _preference(draw: np.random.Generator, alive: np.ndarray, skew: float) -> np.ndarray:
    share = np.exp(skew * draw.standard_normal(alive.size)) * alive
    return share / share.sum()


def _fill(bank: BankStatistics, draw, kind: str, expected: np.ndarray, bits: tuple[int, ...], end: str = "") -> None:
    """Counts around `expected` (`[E]` or `[E, 100]`, per fold and slot of the top-k), and errors for them."""
    shape, arrays = bank.shape, bank.arrays
    counts = draw.poisson(np.broadcast_to(expected * shape.top_k, [FOLDS, *expected.shape])).astype(float)
    level = np.exp(0.5 * draw.standard_normal(shape.experts)) * (1 + bank.shape.layer)
    noise = level[:, None] * 4.0 ** -np.asarray(bits, dtype=float)
    noise = noise * np.exp(0.1 * draw.standard_normal(noise.shape))
    noise = noise if expected.ndim == 1 else noise[..., None]
    support = counts[:, :, None] if expected.ndim == 1 else counts[:, :, None, :]
    arrays[f"{kind}_selections{end}"][:] = counts
    arrays[f"{kind}_support{end}"][:] = counts
    arrays[f"{kind}_weight{end}"][:] = counts / shape.top_k
    arrays[f"{kind}_error{end}"][:] = support * noise * shape.hidden
    arrays[f"{kind}_gated_error{end}"][:] = support * noise * shape.hidden / shape.top_k**2
    arrays[f"{kind}_tokens{end}"][:] = counts.sum(axis=1) / shape.top_k
    arrays[f"{kind}_energy{end}"][:] = counts.sum(axis=1) * shape.hidden * (1 + bank.shape.layer)


def _fill_weights(bank: BankStatistics, draw, bits: tuple[int, ...]) -> None:
    norms = np.exp(0.2 * draw.standard_normal([bank.shape.experts, 3])) * np.sqrt(bank.shape.intermediate)
    bank.arrays["weight_norm"][:] = norms
    rounding = 4.0 ** -np.asarray(bits, dtype=float)
    bank.arrays["weight_error"][:] = norms[:, None, :] ** 2 * rounding[:, None]


def _fill_extras(bank: BankStatistics, draw: np.random.Generator, signals: tuple[str, ...]) -> None:
    """Gradients that fall with the layer and are ten times as large for text; traces around one, some below zero."""
    arrays, folds, slope = bank.arrays, FOLDS, 1 / (1 + bank.shape.layer)
    if "gradients" in bank.extras:
        kinds = [("text", "", 10.0), *(("vision", f"/{signal}", 1.0) for signal in signals)]
        for kind, end, level in kinds:
            energy = slope * level**2 * np.exp(0.5 * draw.standard_normal(folds))
            for key, source in (("fisher_support", "support"), ("fisher_tokens", "tokens")):
                arrays[f"{kind}_{key}{end}"][:] = arrays[f"{kind}_{source}{end}"]
            error = arrays[f"{kind}_gated_error{end}"]
            per_fold = energy.reshape(-1, *[1] * (error.ndim - 1))
            per_expert = np.exp(0.3 * draw.standard_normal(error.shape[1])).reshape(-1, *[1] * (error.ndim - 2))
            arrays[f"{kind}_fisher{end}"][:] = error * per_fold * per_expert
            arrays[f"{kind}_soft_fisher{end}"][:] = 2 * arrays[f"{kind}_fisher{end}"] + error
            tokens = arrays[f"{kind}_tokens{end}"]
            arrays[f"{kind}_gradient_energy{end}"][:] = tokens * energy.reshape(-1, *[1] * (tokens.ndim - 1))
    if "saliency" in bank.extras:
        for kind, end in (("text", ""), *(("vision", f"/{signal}") for signal in signals)):
            energy = arrays[f"{kind}_selections{end}"] * arrays[f"{kind}_gated_error{end}"][:, :, 0]
            arrays[f"{kind}_saliency{end}"][:] = np.sqrt(energy) * (np.linspace(1.5, 0.5, 100) if end else 1)
    if "logit_kl" in bank.extras:
        _fill_kl(bank, draw, signals[0])
    if "hessian" in bank.extras:
        arrays["hessian_samples"][:] = 4
        arrays["hessian_trace"][:] = 4 * draw.normal(1.0, 1.0, arrays["hessian_trace"].shape)


def _fill_kl(bank: BankStatistics, draw: np.random.Generator, signal: str) -> None:
    """KL of four samples a fold, as the error of text and of a fifth of the vision tokens, times noise."""
    arrays = bank.arrays
    for kind, source, end in (("text", "text", ""), ("key", "vision", f"/{signal}")):
        error, support = (arrays[f"{source}_{key}{end}"] for key in ("gated_error", "support"))
        if kind == "key":
            error, support = error[..., :20].sum(axis=-1), support[..., :20].sum(axis=-1)
        arrays[f"{kind}_logit_kl"][:] = error * np.exp(0.2 * draw.standard_normal(error.shape[1]))[:, None] / 1000
        arrays[f"{kind}_logit_kl_support"][:] = support
        arrays[f"{kind}_logit_kl_samples"][:] = 4
