"""What files as large as the published ones take: `python -m tests.benchmarks.sample_files [FOLDER]`.

Made up in FOLDER (a temporary one by default, 2.8 GB): as many bytes and entries as ShareGPT4V's cap100k, its 1.23 GB
of instruction data (665,000 entries) and its 1.49 GB of captions (1,246,000), every tenth entry without a picture. 512
samples are drawn evenly, and then the first 512 taken; seconds, and the most memory of a process that does only that.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

FILES = {"cap100k": (102_025, 134e6), "instruct": (665_000, 1.23e9), "captions": (1_246_000, 1.49e9)}
LIMIT = 512
WORDS = [f"word{number}" for number in range(3000)]


def make(path: Path, entries: int, size: float) -> None:
    """A ShareGPT4V file of so many entries and about so many bytes."""
    draw = random.Random(0)
    pool = [" ".join(draw.choices(WORDS, k=round((size / entries - 190) / 8.5))) for _ in range(500)]
    with path.open("w") as out:
        for number in range(entries):
            asked = ("" if number % 10 == 7 else "<image>\n") + "what do you see in this picture ?"
            talk = [{"from": "human", "value": asked}, {"from": "gpt", "value": pool[number % len(pool)]}]
            entry = {"id": f"{number:012d}", "image": "a.png", "conversations": talk}
            if number % 10 == 7:
                del entry["image"]
            out.write(("[" if number == 0 else ", ") + json.dumps(entry))
        out.write("]")


def measure(path: Path, first: bool) -> None:
    """Read in this process, and print what it took."""
    from mode_core.samples import read_samples

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    found = read_samples(path, limit=LIMIT, first=first)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mix = {kind: sum(tasks.values()) for kind, tasks in found.mix().items()}
    how = "first" if first else "drawn"
    print(f"{path.name:<14} {path.stat().st_size / 1e9:5.2f} GB  {how}  {seconds:6.2f} s  "
          f"{after / 1e3:5.0f} MB, {before / 1e3:.0f} MB of it before  {mix}")  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]), sys.argv[3] == "first")
        return
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else spare)
        Image.new("RGB", (64, 64)).save(folder / "a.png")
        for name, (entries, size) in FILES.items():
            make(path := folder / f"{name}.json", entries, size)
            for how in ("drawn", "first"):
                subprocess.run([sys.executable, "-m", __spec__.name, "--measure", str(path), how], check=True)
            path.unlink()


if __name__ == "__main__":
    main()
