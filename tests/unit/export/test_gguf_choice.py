"""Types chosen by the allocator at their real bits: exact among all combinations, within the bytes, as the file has."""

from itertools import product

import numpy as np
import pytest
import torch

from mode_core.allocation import allocate
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.export import ExportError, export
from mode_core.export.ggml_library import ggml_quantize
from mode_core.export.ggml_types import TYPES
from mode_core.export.gguf_check import stored_types, verify_gguf
from mode_core.export.gguf_choice import Choice, _read_off, _solver
from mode_core.export.gguf_names import expert_tensor
from mode_core.export.imatrix import importance_rows, read_imatrix
from mode_core.importance import cost_table
from mode_core.models import ensure_torchvision, load_model
from mode_core.run import Run
from mode_core.statistics import BankShape
from tests.conftest import EYES, SPECIAL, TEXT, tiny_processor
from tests.llama_cpp import ask

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def wide(tiny_samples, tmp_path_factory):
    """A random Qwen3-VL-MoE whose rows fill blocks of 256 (hidden 256, experts of 512), calibrated with an importance
    matrix: (model, run, costs)."""
    ensure_torchvision()
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    text = TEXT | {"hidden_size": 256, "moe_intermediate_size": 512, "num_hidden_layers": 2, "num_experts": 4}
    text |= {"mlp_only_layers": [], "intermediate_size": 512}
    tokens = {f"{kind}_token_id": SPECIAL.index(f"<|{kind}_pad|>") for kind in ("image", "video")}
    tokens |= {f"vision_{end}_token_id": SPECIAL.index(f"<|vision_{end}|>") for end in ("start", "end")}
    # llama.cpp cannot add vision features behind the last layer, so to one of the two alone
    eyes = EYES | {"out_hidden_size": 256, "deepstack_visual_indexes": [0]}
    config = Qwen3VLMoeConfig(text_config=text, vision_config=eyes, **tokens)
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(4)
    model = Qwen3VLMoeForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.06)
    model.bfloat16().save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    loaded, run = load_model(folder / "model", device="cpu"), Run.create(folder / "run")
    settings = CalibrationSettings(bits=(2, 3, 4), imatrix=True, exemplars=0, token_scores_for=0)
    costs = cost_table(calibrate(loaded, tiny_samples, settings, run=run), "mode_output")
    return loaded, Run.open(run.path), costs


@pytest.fixture(scope="module")
def importance(wide, tmp_path_factory):
    """The file of the target imatrix."""
    _, run, costs = wide
    folder = tmp_path_factory.mktemp("matrix") / "out"
    export("imatrix", allocate(costs, average_bits=3.0, scope="model"), folder, run=run, costs=costs)
    return folder / "imatrix.gguf"


def written(wide, folder, bits: float = 3.0, **options: str):
    loaded, run, costs = wide
    asked = allocate(costs, average_bits=bits, scope="model")
    return asked, export("gguf", asked, folder, run=run, costs=costs, loaded=loaded, options=options)


def test_the_least_damage_among_all_combinations():
    draw, kind = np.random.default_rng(0), TYPES["Q4_0"]
    shapes = {name: BankShape(n, 3, 64, 64, 2) for n, name in enumerate("ab")}
    choices = {}
    for place in product("ab", (0, 1)):
        sizes = np.cumsum(draw.integers(10, 60, int(draw.integers(2, 5)))).tolist()
        damage = np.sort(draw.random(len(sizes)))[::-1].tolist()
        choices[place] = [Choice(kind, 4, size, float(loss), True) for size, loss in zip(sizes, damage, strict=True)]
    solver, least = _solver(choices, shapes), 3 * sum(own[0].bytes for own in choices.values())
    for budget in (least, least + 100, least + 250, least + 400):
        fitting = [c for c in product(*choices.values()) if 3 * sum(one.bytes for one in c) <= budget]
        best = min(sum(one.damage for one in combination) for combination in fitting)
        assert solver.solve(None, budget_bytes=budget).objective == pytest.approx(best)


def test_damage_is_read_off_between_the_measured_widths():
    errors, damage = {2: 0.1, 3: 0.01}, {2: 10.0, 3: 0.1}
    assert _read_off(0.1, errors, damage) == pytest.approx(10.0)
    assert _read_off(0.1**1.5, errors, damage) == pytest.approx(1.0)  # half way in logarithms
    assert _read_off(0.001, errors, damage) == pytest.approx(0.01)  # beyond: in proportion to the error
    assert _read_off(1.0, errors, damage) == pytest.approx(100.0)


def test_types_that_hold_codes_keep_their_measured_damage(wide, tmp_path):
    _, result = written(wide, tmp_path / "out")
    types = result.fitted.allocation.settings["ggml_types"]
    assert set(types.values()) <= {"Q2_0", "Q4_0", "Q5_0", "Q8_0"}
    assert stored_types(tmp_path / "out" / "model.gguf").items() >= types.items()
    assert verify_gguf(tmp_path / "out" / "model.gguf")["as_planned"]
    if set(types.values()) <= {"Q2_0", "Q4_0"}:  # both measured: the loss is that of 2 and 4 bits, to the last digit
        _, run, costs = wide
        from mode_core.importance.projections import by_projection

        table, total = by_projection(costs, run.statistics), 0.0
        for bank, bits in result.fitted.allocation.bits.items():
            for side in range(2):
                total += table[bank][:, side, costs.bits.index(int(bits[0, side]))].sum()
        assert result.fitted.price["predicted_loss_as_written"] == pytest.approx(total)
    assert result.fitted.price["bytes_as_written"] <= result.fitted.price["bytes_as_asked"]


def test_k_and_iq_types_with_an_importance_matrix(wide, importance, tmp_path):
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    loaded, _, _ = wide
    _, result = written(wide, tmp_path / "out", types="Q2_0,IQ2_XS,Q2_K,Q3_K,Q4_0,Q4_K,Q8_0", imatrix=str(importance))
    _, plain = written(wide, tmp_path / "codes")
    path, allocation = tmp_path / "out" / "model.gguf", result.fitted.allocation
    types, rows = allocation.settings["ggml_types"], importance_rows(read_imatrix(importance))
    rounded = [name for name, kind in types.items() if TYPES[kind].levels is None]
    assert (
        rounded and result.fitted.price["predicted_loss_as_written"] < plain.fitted.price["predicted_loss_as_written"]
    )
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert sum(tensors[name].n_bytes for name in types) == allocation.bytes
    assert allocation.average_bits == pytest.approx(
        8 * allocation.bytes / sum(tensors[name].n_elements for name in types)
    )
    for bank in loaded.banks.values():
        for projection in bank.projections:
            name = expert_tensor(bank.layer, projection)
            if name in rounded:
                weights = bank.matrix(projection, 1).float().numpy()
                made = ggml_quantize(weights, TYPES[types[name]], rows[name][1])
                assert (tensors[name].data.reshape(bank.experts, *made.shape)[1] == made).all()
    assert any("is an estimate: read off" in note for note in result.manifest["notes"])
    (answer,) = ask(path, [{"prompt": [1, 12, 13, 2], "n_predict": 3, "temperature": 0}])["completions"]
    assert answer["usage"]["prompt_tokens"] == 4


def test_what_cannot_be_chosen_is_refused(wide, tmp_path):
    with pytest.raises(ExportError, match="There is no ggml type 'Q9_K' here; choose among: F32"):
        written(wide, tmp_path / "out", types="Q9_K")
    with pytest.raises(ExportError, match=r"IQ2_XS is rounded with an importance matrix alone; give one"):
        written(wide, tmp_path / "out", types="Q2_K,IQ2_XS")
    with pytest.raises(
        ExportError, match=r"The budget is [\d,]+ bytes of experts, and types 'Q5_0,Q8_0' cannot meet it"
    ):
        written(wide, tmp_path / "out", types="Q5_0,Q8_0")
    with pytest.raises(ExportError, match=r"types 'Q8_0' cannot meet it: budget_bytes must be at least \d+, as"):
        written(wide, tmp_path / "out", types="Q8_0")
    loaded, _, costs = wide
    with pytest.raises(ExportError, match=r"give its run, or keep the allocation's widths .types 'plan'."):
        export("gguf", allocate(costs, average_bits=3.0), tmp_path / "out", loaded=loaded)
