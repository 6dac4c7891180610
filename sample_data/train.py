"""Trains the bundled model: `python -m sample_data.train`. Stops and resumes at any time from its checkpoint.

Several processes share the work where they are asked to, which on a busy machine beats threads:
`torchrun --nproc-per-node 2 -m sample_data.train`.

Stage 1 teaches the vision tower to put into each vision token the word vectors of what its cell shows. Stage 2 trains
everything on questions about pictures and on text-only facts and sums. Losses count answers only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from sample_data.architecture import MODEL_FOLDER, build_model, build_processor, vocabulary
from sample_data.batches import Batch, Encoder, cell_labels, patches
from sample_data.channels import spread_channels
from sample_data.forward import RouterTally, answer_losses, label_loss, vision_features
from sample_data.layout import publish
from sample_data.pictures import DRAWERS, Picture
from sample_data.questions import PICTURE_TASKS
from sample_data.world import FACTS, GROUPS, SEVERAL, SUMS, Question

TASKS = [*PICTURE_TASKS, *dict.fromkeys(fact.task for fact in (*FACTS, *SEVERAL, *SUMS))]
SHORT = {"fact_one": 0.66, "fact_land": 0.04, "arithmetic": 0.30}
LONG = dict.fromkeys((*GROUPS, "person_all", "land_all"), 1 / 8)
KINDS = {"scene": 0.42, "emblem": 0.10, "number": 0.10, "chart": 0.14, "portrait": 0.24}
SEEN = {"scene": 0.35, "emblem": 0.10, "number": 0.10, "chart": 0.15, "crowd": 0.30}  # by the vision tower alone


@dataclass(frozen=True)
class Plan:
    """All that decides the result of a training run, besides the code."""

    seed: int = 7
    scale: float = 1.0
    vision_steps: int = 500
    steps: int = 4200
    pictures: int = 16
    texts: int = 256
    long_texts: int = 208
    long_from: int = 1450
    room: int = 100
    vision_rate: float = 1.5e-3
    rate: float = 2.5e-3
    warmup: int = 200
    label_weight: float = 0.3
    balance_weight: float = 0.01
    channel_spread: float = 0.0


@dataclass(frozen=True)
class Crew:
    """The processes that train together: each takes its share of every batch, and gradients are averaged."""

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> Crew:
        """As torchrun set it up; alone without it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size > 1:
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(int(os.environ.get("RANK", "0")), size)

    def share(self, count: int) -> int:
        """How many of `count` samples this process takes."""
        return count // self.size + (self.rank < count % self.size)

    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        pieces = (flat / self.size).split([gradient.numel() for gradient in gradients])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)


class Source:
    """Endless training material; draw number n is the same on every machine and after every resume."""

    def __init__(self, plan: Plan, encoder: Encoder, crew: Crew) -> None:
        self.plan, self.encoder, self.crew = plan, encoder, crew
        self.questions: dict[str, list[Question]] = {}
        for fact in (*FACTS, *SEVERAL, *SUMS):
            self.questions.setdefault(fact.task, []).extend(fact.training_questions())

    def random(self, stage: int, step: int) -> np.random.Generator:
        """The dice of one step of one process."""
        return np.random.default_rng((self.plan.seed, stage, step, self.crew.rank))

    def drawn(self, random: np.random.Generator, shares: dict[str, float]) -> list[Picture]:
        """Freshly drawn pictures of all kinds."""
        kinds = random.choice(list(shares), self.crew.share(self.plan.pictures), p=list(shares.values()))
        return [DRAWERS[kind](random) for kind in kinds]

    def pictures(self, step: int) -> Batch:
        """Pictures with questions for one step."""
        random = self.random(1, step)
        return self.encoder.pictures(self.drawn(random, KINDS), random, self.plan.room)

    def texts(self, step: int) -> Batch:
        """Facts and sums for one step; later on, at every other step, questions for several facts at once."""
        random, shares = self.random(2, step), SHORT
        count = self.crew.share(self.plan.texts)
        if step >= self.plan.long_from and step % 2:
            count, shares = self.crew.share(self.plan.long_texts), LONG
        tasks = random.choice(list(shares), count, p=list(shares.values()))
        chosen = [self.questions[task][random.integers(len(self.questions[task]))] for task in tasks]
        return self.encoder.texts(chosen)


def learning_rate(step: int, total: int, warmup: int, peak: float) -> float:
    """Linear warm-up, flat to 60 %, then down to nothing along a half cosine."""
    if step < warmup:
        return peak * (step + 1) / warmup
    start = 0.6 * total
    if step < start:
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - start) / (total - start))))


class Trainer:
    """Model, optimizer and step counter, with checkpoints."""

    def __init__(
        self, plan: Plan, crew: Crew, folder: Path, device: torch.device, minutes_between_saves: float
    ) -> None:
        self.plan, self.crew, self.folder, self.device = plan, crew, folder, device
        self.words = vocabulary()
        self.encoder = Encoder(self.words, TASKS)
        self.source = Source(plan, self.encoder, crew)
        self.model = build_model(self.words, plan.seed, plan.scale).to(device).train()
        self.tally = RouterTally(self.model)
        self.embedding = self.model.get_input_embeddings().weight
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self._optimizer()
        self.step, self.stage = 0, "vision"
        self.between = 60 * minutes_between_saves
        self.saved = self.began = time.monotonic()

    def _optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.trained, lr=self.plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    def run(self) -> None:
        """Both stages, from where the checkpoint left off."""
        self.resume()
        if self.stage == "vision":
            self._loop(self.plan.vision_steps, self.plan.vision_rate, self.vision_step)
            self.stage, self.step, self.optimizer = "joint", 0, self._optimizer()
            self.save()
        self._loop(self.plan.steps, self.plan.rate, self.joint_step)
        self.save()

    def _loop(self, total: int, peak: float, one_step) -> None:
        while self.step < total:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.step, total, self.plan.warmup, peak)
            report = one_step()
            self.crew.average_gradients(self.trained)
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            if self.step % 50 == 0 and self.crew.rank == 0:
                print(f"{self.stage} {self.step}/{total} {time.monotonic() - self.began:.0f}s {report()}", flush=True)
            if time.monotonic() - self.saved > self.between:
                self.save()

    def vision_step(self):
        """Cell words only; the language model rests."""
        random = self.source.random(0, self.step)
        drawn = self.source.drawn(random, SEEN)
        features = vision_features(self.model.model.visual, patches(drawn).to(self.device))
        loss, right = label_loss(features, cell_labels(drawn).to(self.device), self.embedding, self.encoder.token)
        loss.backward()
        return lambda: f"loss {loss.item():.3f} " + " ".join(f"{k} {v.item():.2f}" for k, v in right.items())

    def joint_step(self):
        """Pictures and texts, the two losses added."""
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        loss = torch.zeros((), device=self.device)
        if self.plan.pictures:
            batch = self.source.pictures(self.step).to(self.device)
            losses, hits, tasks, features = answer_losses(self.model, batch)
            cells, _ = label_loss(features, batch.labels, self.embedding, self.encoder.token)
            loss = losses.mean() + self.plan.label_weight * cells
            seen.append((hits, tasks))
        if self.plan.texts:
            losses, hits, tasks, _ = answer_losses(self.model, self.source.texts(self.step).to(self.device))
            loss = loss + losses.mean()
            seen.append((hits, tasks))
        balance = self.tally.balance()
        (loss + self.plan.balance_weight * balance).backward()
        return lambda: self._report(loss.detach().item(), balance.detach().item(), seen)

    def _report(self, loss: float, balance: float, seen: list[tuple[torch.Tensor, torch.Tensor]]) -> str:
        hits, tasks = (torch.cat(parts) for parts in zip(*seen, strict=True))
        shares = {task: hits[tasks == i].float().mean().item() for i, task in enumerate(TASKS)}
        return f"loss {loss:.3f} balance {balance:.2f} " + " ".join(f"{k} {v:.2f}" for k, v in shares.items())

    def save(self) -> None:
        """Writes the checkpoint atomically (the first process does)."""
        if self.crew.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "plan": asdict(self.plan),
            "stage": self.stage,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, self.folder / "new.pt")
        (self.folder / "new.pt").replace(self.folder / "checkpoint.pt")
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Takes up the checkpoint of the same plan, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if {**state["plan"], "steps": 0} != {**asdict(self.plan), "steps": 0}:  # a run may be made longer or shorter
            raise ValueError(f"{path} belongs to another plan: {state['plan']}. Remove it or choose another folder.")
        self.stage, self.step = state["stage"], state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def export(self, folder: Path, note: str) -> None:
        """Writes the model in bfloat16 with its processor, as from_pretrained reads them, and how it was trained."""
        build_processor().save_pretrained(folder)
        self.model.to(torch.bfloat16)
        spread_channels(self.model, self.plan.channel_spread, self.plan.seed)
        self.model.save_pretrained(folder)
        publish(folder)
        record = {"plan": asdict(self.plan), "note": note}
        (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Command line: where to keep the checkpoint and where to write the model; any field of the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = MODEL_FOLDER.parent / "checkpoints"
    parser.add_argument("--checkpoints", type=Path, default=home, help="folder of the checkpoint")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder that the finished model goes to")
    parser.add_argument("--minutes-between-saves", type=float, default=4.0)
    parser.add_argument("--note", default="", help="a sentence for the model card, such as hardware and time taken")
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args())
    places = (options.pop(name) for name in ("checkpoints", "model", "minutes_between_saves", "note"))
    checkpoints, model, minutes, note = places
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    crew = Crew.from_environment()
    trainer = Trainer(Plan(**options), crew, checkpoints, device, minutes)
    trainer.run()
    if crew.rank == 0:
        trainer.export(model, note)


if __name__ == "__main__":
    main()
