"""Turns pictures with questions, and facts, into tensors for training.

Several questions about one picture share one copy of it: each question with its answer is a block that sees the
picture and itself, never another block, and its positions start where they would if it were alone. So every block
is exactly what the chat template makes of a single question.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sample_data.architecture import split_words
from sample_data.pictures import CELL, GRID, Picture
from sample_data.questions import questions_about
from sample_data.world import Question

CELLS = GRID * GRID
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Token ids [B,L], targets [B,L] (next token, or IGNORED), positions [3,B,L], task of each target [B,L]."""

    ids: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor
    tasks: torch.Tensor
    mask: torch.Tensor | None = None  # [B,1,L,L] where attention may look; None: plain causal
    pixels: torch.Tensor | None = None  # [B,64,768], one row a patch
    labels: torch.Tensor | None = None  # [B,64,kinds]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(*(None if t is None else t.to(device) for t in self.__dict__.values()))


class Encoder:
    """Words to ids, and samples to batches."""

    def __init__(self, words: list[str], tasks: list[str]) -> None:
        self.token = {word: i for i, word in enumerate(words)}
        self.task = {task: i for i, task in enumerate(tasks)}
        self.opening = [self.token["<|im_start|>"], self.token["user"]]
        self.turn = [self.token["<|im_end|>"], self.token["<|im_start|>"], self.token["assistant"]]
        picture = [self.token["<|vision_start|>"], *[self.token["<|image_pad|>"]] * CELLS, self.token["<|vision_end|>"]]
        self.prefix = self.opening + picture
        start = len(self.opening) + 1
        cells = np.arange(CELLS)
        inside = np.stack([np.zeros(CELLS, dtype=np.int64), cells // GRID, cells % GRID]) + start
        self.block_start = start + GRID + 1
        outside = np.arange(start)[None].repeat(3, 0)
        last = np.full((3, 1), start + GRID)
        self.prefix_positions = np.concatenate([outside, inside, last], axis=1)

    def ids(self, text: str) -> list[int]:
        """Ids of a text; a word outside the vocabulary is an error."""
        return [self.token[word] for word in split_words(text)]

    def block(self, question: Question) -> tuple[list[int], int]:
        """Ids of question, turn and answer, and where the answer starts in them."""
        asked = self.ids(question.text) + self.turn
        return asked + self.ids(question.answer) + [self.turn[0]], len(asked)

    def texts(self, questions: list[Question]) -> Batch:
        """A batch of text-only questions, one a row."""
        rows = [(self.opening + ids, start + len(self.opening), q) for q in questions for ids, start in [self.block(q)]]
        length = max(len(ids) for ids, _, _ in rows)
        ids, targets, tasks = _empty(len(rows), length)
        for i, (row, start, question) in enumerate(rows):
            ids[i, : len(row)] = row
            targets[i, start - 1 : len(row) - 1] = row[start:]
            tasks[i, start - 1 : len(row) - 1] = self.task[question.task]
        positions = torch.arange(length).expand(3, len(rows), length)
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), positions, torch.from_numpy(tasks))

    def pictures(self, pictures: list[Picture], random: np.random.Generator, room: int) -> Batch:
        """A batch of pictures, each with as many questions as fit in `room` tokens."""
        begin = len(self.prefix)
        length = begin + room
        ids, targets, tasks = _empty(len(pictures), length)
        blocks = np.full((len(pictures), length), -1)
        positions = np.zeros((3, len(pictures), length), dtype=np.int64)
        for i, picture in enumerate(pictures):
            ids[i, :begin], blocks[i, :begin], positions[:, i, :begin] = self.prefix, 0, self.prefix_positions
            at = begin
            asked = questions_about(picture, random)
            if i % 2:  # counting is learned last: every other picture asks it first, before the room is used up
                asked.sort(key=lambda question: question.task != "count")
            for number, question in enumerate(asked, 1):
                block, start = self.block(question)
                end = at + len(block)
                if end > length:
                    continue
                ids[i, at:end], blocks[i, at:end] = block, number
                targets[i, at + start - 1 : end - 1] = block[start:]
                tasks[i, at + start - 1 : end - 1] = self.task[question.task]
                positions[:, i, at:end] = self.block_start + np.arange(len(block))
                at = end
        block = torch.from_numpy(blocks)
        sees = (block[:, None, :] == 0) | (block[:, :, None] == block[:, None, :])
        mask = (sees & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(targets),
            torch.from_numpy(positions),
            torch.from_numpy(tasks),
            mask,
            patches(pictures),
            cell_labels(pictures),
        )


def _empty(rows: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (rows, length)
    return np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED), np.full(shape, -1)


def patches(pictures: list[Picture]) -> torch.Tensor:
    """Pixels as the stock image processor scales and cuts them, one frame: [B,64,768]."""
    pixels = torch.from_numpy(np.stack([p.pixels for p in pictures])).float() / 127.5 - 1
    pixels = pixels.reshape(-1, GRID, CELL, GRID, CELL, 3).permute(0, 1, 3, 5, 2, 4)
    return pixels.reshape(len(pictures), CELLS, 3 * CELL * CELL)


def cell_labels(pictures: list[Picture]) -> torch.Tensor:
    """[B,64,kinds] label indices, 0 = none."""
    labels = np.stack([p.labels for p in pictures])
    return torch.from_numpy(labels.reshape(len(pictures), CELLS, -1))
