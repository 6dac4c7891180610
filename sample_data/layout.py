"""The bundled model in the form in which its family is published, and the run that tells of it.

transformers 5 saves this family's experts turned and without `norm_topk_prob`, which vLLM refuses and llama.cpp's
converter misreads (`mode_core.export.published_forms`). Training ends with `publish`. The model's revision is a digest
of its files, so a run that was made before is told the new one, as not one weight has changed:

    python -m sample_data.layout
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from mode_core.export import export
from mode_core.models import load_model
from mode_core.models.checkpoint_files import CheckpointFiles
from mode_core.quantization.widths import UNTOUCHED
from mode_core.statistics import ExpertStatistics
from sample_data.architecture import MODEL_FOLDER
from sample_data.measure import uniform


def publish(folder: Path) -> None:
    """Put the published form in the place of a saved model's weights and configuration; every weight stays as it is."""
    loaded = load_model(folder, device="cpu")
    with tempfile.TemporaryDirectory() as place:
        made = export("dequantized", uniform(loaded, UNTOUCHED), Path(place) / "model", loaded=loaded).folder
        for name in ("model.safetensors", "config.json"):
            shutil.copyfile(made / name, folder / name)


def retell(run: Path, before: str, after: str) -> None:
    """Name another revision of the model wherever a run and its evidence name the one before."""
    for path in run.rglob("*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(f'"{before}"', f'"{after}"'), encoding="utf-8")
    place = run / "statistics.safetensors"
    statistics = ExpertStatistics.load(place)
    settings = {key: after if value == before else value for key, value in statistics.settings.items()}
    replace(statistics, settings=settings).save(place)


def revision(folder: Path) -> str:
    """The digest that runs know a model by."""
    with CheckpointFiles(folder) as files:
        return files.revision()


if __name__ == "__main__":
    earlier = revision(MODEL_FOLDER)
    publish(MODEL_FOLDER)
    retell(MODEL_FOLDER.parent / "run", earlier, revision(MODEL_FOLDER))
    print(f"revision {earlier} -> {revision(MODEL_FOLDER)}")
