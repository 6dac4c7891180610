"""Which rounding errors change what the model says: gradients of its own answers at every bank's output.

Theory. For a prompt x the model gives the answer y with probability p(y|x) = Π_t p(y_t | y_<t, x). Let z `[T, H]` be
one bank's output at all positions of the sequence. Moving it by a small Δz changes the distribution of answers by
KL ≈ ½·E[⟨g, Δz⟩²], where g is the gradient at z of the log-likelihood of an answer: the Fisher information. Its
expectation is over answers **of the model itself**; with the reference answer in their place (the empirical Fisher) it
would also measure how well the model knows the labels, and calibration uses no labels. By the chain rule of the Fisher
information it is the expectation, over one answer y drawn from the model, of Σ_t Jᵀ_t·C_t·J_t: J_t the Jacobian of the
logits at position t with respect to z, C = diag(p) − p·pᵀ the covariance of the label there.

That is estimated with random signs. With A = diag(√p) − p·√pᵀ, A·Aᵀ = C, so for independent signs ε = ±1 at every
position and token, g = Σ_t Jᵀ_t·A_t·ε_t has E[g·gᵀ] = Σ_t Jᵀ_t·C_t·J_t: one backward pass of ⟨A·ε, logits⟩ per
sequence, as cheap as the gradient of a drawn label and with the same expectation, but without its luck: where the model
is 99 % sure, a drawn label tells nothing 99 times and then all at once. `gradient_draws` of them are averaged.

Softened. Where the model is sure, p ≈ 1 and C ≈ 0, although rounding to one or two bits moves logits by more than
their margins: to second order such an answer cannot change, in truth it does. The same pass is therefore made for the
distribution at the temperature τ = `gradient_temperature` too, softmax(logits / τ), whose Fisher information still sees
how far logits move where the answer is sure (at τ → ∞ it is the plain variance of their changes). This is ours.

Kept is the diagonal, which adds up over tokens and experts. For a token at position t routed to expert e with weight w:

    damage(t, e, b) = Σ_d g_td² · (w · (E_e(x_t) − E_e^b(x_t)))_d²

as GEMQ-like allocators have it. Products between channels, positions and experts are left out, and so is the ½.
Answers end at the model's own end of turn, or are cut after `gradient_tokens`: then it is the Fisher information of
that many first tokens. Control tokens other than the end of turn (placeholders of pictures, roles) cannot be drawn; the
likelihood is that of the remaining tokens.

Random numbers are made from (seed, draw, sample id) alone, so batches, order and processes do not matter (but for
draws on a knife's edge, where the sums of another batch round differently).

Cost in passes of the model: one forward per answer token (with a cache), one forward over prompt and answer, two
backward per draw, and the experts' sensitivity once more (`tests/benchmarks/calibrate_gradients.py` measures it).
Memory: what autograd keeps of one batch's pass, and the gradients of one batch, `banks × batch × length × H`; nothing
grows with the number of samples. Weights get no gradients. With weights offloaded layer by layer autograd would hold on
to all of them; there every layer keeps its inputs alone (`layers × batch × length × H`) and is computed again on the
way back (`models.recomputing`), so that the weights of one layer are in memory at a time, beside those that go with the
last one (final norm, head). The numbers are the same. All weights are then read once per answer token, once for the
pass, and once per backward: on a disk the answers take nearly all of the time, so large batches and few
`gradient_tokens` pay. Families whose own code runs its experts without autograd
(Kimi-VL, DeepSeek-VL2) pass gradients to earlier layers around their experts, not through them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch
from torch import Tensor

from mode_core.calibration.settings import CalibrationSettings
from mode_core.calibration.sums import BankSums
from mode_core.models import Encoded, LoadedModel
from mode_core.models.last_logits import keeping, last_logits, longer_inputs
from mode_core.models.offloading import is_offloaded
from mode_core.models.recomputing import recomputed
from mode_core.probing.probe import Observation, Probe
from mode_core.samples import Sample

ANSWER = -1  # the stream of random numbers that the answers are drawn with; signs use the streams 0, 1, …


@dataclass(frozen=True)
class DrawnAnswers:
    """A batch with its drawn answers behind the prompts (padded on the left, and after an end of turn).

    `real` bool `[batch, n]`: which of the n answer positions are no padding (the end of turn is real).
    """

    encoded: Encoded
    real: Tensor


def gradients_unasked(loaded: LoadedModel) -> bool:
    """Are gradients measured unless a person says no? The model lies in memory, and once more its size is free beside
    it, for what autograd keeps of a batch. From a disk they are measured where they are asked for: that takes hours."""
    if is_offloaded(loaded.model):
        return False
    weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
    device = next(loaded.model.parameters()).device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return weights <= free


def add_gradients(
    loaded: LoadedModel,
    probe: Probe,
    samples: Sequence[Sample],
    settings: CalibrationSettings,
    sums: dict[str, BankSums],
) -> None:
    """Answer one batch and add its Fisher damages and gradient energies to the banks' sums."""
    drawn = draw_answers(loaded, samples, settings.gradient_tokens, settings.seed)
    temperatures = (1.0, settings.gradient_temperature)
    for seen, squared in squared_gradients(loaded, probe, drawn, settings.seed, settings.gradient_draws, temperatures):
        sums[seen.bank.name].add_gradients(seen, squared)


def draw_answers(loaded: LoadedModel, samples: Sequence[Sample], tokens: int, seed: int = 0) -> DrawnAnswers:
    """Answers of the model itself, at most `tokens` long, at temperature 1 (see the head of this file).

    They are cut where the model's context ends. Memory: the cache of one batch, and batch × vocabulary probabilities in
    float64.
    """
    encoded = loaded.encode(samples, padding_side="left")
    prompt = encoded.inputs["input_ids"].shape[1]
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    tokens = tokens if context is None else max(1, min(tokens, context - prompt))
    chooser = _Chooser(uniforms(encoded, tokens, seed, ANSWER), prompt, barred_tokens(loaded))
    write = _generated if loaded.model.can_generate() else _written_plainly
    with torch.no_grad():
        answers = write(loaded, encoded, tokens, chooser)
    ended = torch.isin(answers, torch.tensor(loaded.stops, device=answers.device))
    real = ended.int().cumsum(dim=1) - ended.int() == 0  # up to and with the first end of turn
    return DrawnAnswers(_with_answers(encoded, answers, real), real)


def _generated(loaded: LoadedModel, encoded: Encoded, tokens: int, chooser: _Chooser) -> Tensor:
    """Answers `[batch, n]` by the model's own loop, with a cache."""
    from transformers import GenerationConfig

    settings = GenerationConfig(
        do_sample=False,  # the chooser draws; what it drew is the only token left
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=tokens,
        eos_token_id=loaded.stops,
        pad_token_id=loaded.tokenizer.pad_token_id or 0,
    )
    made = loaded.model.generate(**encoded.inputs, generation_config=settings, logits_processor=[chooser])
    return made[:, chooser.prompt :]


def _written_plainly(loaded: LoadedModel, encoded: Encoded, tokens: int, chooser: _Chooser) -> Tensor:
    """The same for models whose code has no such loop: the whole sequence again for every token."""
    answers = encoded.inputs["input_ids"][:, :0]
    for _ in range(tokens):
        now = _with_answers(encoded, answers, torch.ones_like(answers, dtype=torch.bool))
        scores = last_logits(loaded.model, now.inputs, 1)[:, -1]
        answers = torch.cat([answers, chooser(now.inputs["input_ids"], scores).argmax(dim=-1, keepdim=True)], dim=1)
    return answers


def squared_gradients(
    loaded: LoadedModel,
    probe: Probe,
    drawn: DrawnAnswers,
    seed: int = 0,
    draws: int = 1,
    temperatures: Sequence[float] = (1.0,),
) -> Iterator[tuple[Observation, Tensor]]:
    """One forward and `draws` backward passes per temperature: (observation, mean g²) of every bank.

    Mean g² is `[F, T, H]` float32: F temperatures, T = batch × length. Sequences do not see each other, so one pass
    gives each its own gradients.
    """
    seen: list[Observation] = []
    keep = drawn.real.shape[1]
    with recomputed(probe.layers) if is_offloaded(loaded.model) else nullcontext():
        made = probe.run(drawn.encoded, seen.append, gradients=True, **keeping(loaded.model, keep + 1))
    logits = ordinary(made.logits[:, -keep - 1 : -1], barred_tokens(loaded))
    squared = [torch.zeros(len(temperatures), *one.output.shape, device=one.output.device) for one in seen]
    for draw in range(draws):
        signs = random_signs(drawn.encoded, logits.shape, seed, draw)
        for row, temperature in enumerate(temperatures):
            weights = label_projection(logits.detach(), signs, temperature) * drawn.real[..., None]
            last = draw + 1 == draws and row + 1 == len(temperatures)
            gradients = torch.autograd.grad(logits, [one.source for one in seen], weights, retain_graph=not last)
            for total, one, gradient in zip(squared, seen, gradients, strict=True):
                total[row] += one.placed(gradient).float().square() / draws
    del made, logits, gradients  # and with them the pass that autograd kept
    while seen:
        one = seen.pop()
        plain = {name: getattr(one, name).detach() for name in ("states", "experts", "weights", "output")}
        yield replace(one, **plain, source=None), squared.pop()


def label_projection(logits: Tensor, signs: Tensor, temperature: float = 1.0) -> Tensor:
    """A·ε at every position, `[…, V]`: (√p ∘ ε − p·⟨√p, ε⟩) / τ with p = softmax(logits / τ); see the head.

    Over random signs its mean is 0 and its covariance (diag(p) − p·pᵀ)/τ², the Fisher information of the logits.
    """
    shares = (logits / temperature).softmax(dim=-1)
    along = shares.sqrt() * signs
    return (along - shares * along.sum(dim=-1, keepdim=True)) / temperature


def random_signs(encoded: Encoded, shape: torch.Size, seed: int, draw: int) -> Tensor:
    """Independent ±1, float32 `[batch, n, V]`; each row from its sample's id, seed and draw alone."""
    rows = [np.random.default_rng(sample_seed(name, seed, draw)) for name in encoded.ids]
    drawn = np.stack([row.integers(0, 2, tuple(shape[1:]), dtype=np.int8) for row in rows])
    return torch.from_numpy(drawn).to(encoded.modality.device).float() * 2 - 1


def ordinary(logits: Tensor, barred: Sequence[int]) -> Tensor:
    """The logits in float32 with the barred tokens at −∞."""
    return logits.float().index_fill(-1, torch.tensor(barred, device=logits.device), -torch.inf)


def log_likelihood(logits: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """Σ_t log p(label_t) of every sequence over its real positions: logits `[batch, n, V]`, the others `[batch, n]`."""
    each = logits.log_softmax(dim=-1).gather(-1, labels[..., None])[..., 0]
    return torch.where(real, each, 0.0).sum(dim=1)


def barred_tokens(loaded: LoadedModel) -> list[int]:
    """Control tokens that no answer consists of: all special tokens and placeholders of media but the ends of turn."""
    tokenizer = loaded.tokenizer
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(
        (added | set(tokenizer.all_special_ids) | {*loaded.vision_ids, *loaded.audio_ids}) - set(loaded.stops)
    )


def uniforms(encoded: Encoded, tokens: int, seed: int, stream: int) -> Tensor:
    """Uniform numbers in [0, 1), float64 `[batch, tokens]`; each row from its sample's id, seed and stream alone."""
    rows = [np.random.default_rng(sample_seed(name, seed, stream)).random(tokens) for name in encoded.ids]
    return torch.tensor(np.stack(rows), device=encoded.modality.device)


def sample_seed(sample_id: str, seed: int, stream: int) -> list[int]:
    """What seeds the random numbers of one sample, so that neither batch nor process matters."""
    words = np.frombuffer(hashlib.sha256(sample_id.encode()).digest()[:16], dtype="<u4")
    return [seed, stream + 1, *words.tolist()]


class _Chooser:
    """Draws the next token by inverting the cumulated probabilities, and leaves it as the only possible one."""

    def __init__(self, uniforms: Tensor, prompt: int, barred: Sequence[int]):
        self.uniforms, self.prompt, self.barred = uniforms, prompt, barred

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.prompt
        chosen = draw_tokens(ordinary(scores, self.barred), self.uniforms[:, step])
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


def draw_tokens(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens drawn from softmax(logits): logits `[…, V]`, uniforms `[…]` in [0, 1) → int64 `[…]`.

    Token v is drawn where the cumulated probability first exceeds the uniform number; never one of probability 0.
    """
    cumulated = logits.double().softmax(dim=-1).cumsum(dim=-1)
    place = torch.searchsorted(cumulated, (uniforms * cumulated[..., -1])[..., None], right=True)
    return place[..., 0].clamp_max(logits.shape[-1] - 1)


def _with_answers(encoded: Encoded, answers: Tensor, real: Tensor) -> Encoded:
    """The same batch with the answers' tokens behind the prompts: text, and marked as answer."""
    none = torch.zeros_like(real)
    return replace(
        encoded,
        inputs=longer_inputs(encoded.inputs, answers, real),
        modality=torch.cat([encoded.modality, real.to(encoded.modality.dtype)], dim=1),  # real: text, which is 1
        special_mask=torch.cat([encoded.special_mask, none], dim=1),
        template_mask=torch.cat([encoded.template_mask, none], dim=1),
        answer_mask=torch.cat([encoded.answer_mask, real], dim=1),
    )
