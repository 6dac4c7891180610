"""Where attention is read, and what is said where it cannot be."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mode_core.errors import CalibrationError
from mode_core.models import PADDING, TEXT, VISION, Reached
from mode_core.models.encoding import Encoded
from mode_core.probing import probe as probing
from mode_core.probing.attention_sources import Read, find_attention, read_past_interface, serving
from mode_core.probing.bank_positions import Parts
from mode_core.probing.interface import PROBES, Kernel
from mode_core.probing.probe import Probe


class OwnAttention(nn.Module):
    """Plain attention as older code writes it; `silent` gives no weights, as fast kernels do."""

    silent = False

    def forward(self, hidden_states, output_attentions=False):
        weights = (hidden_states @ hidden_states.mT).softmax(dim=-1)[:, None].expand(-1, 2, -1, -1)
        return weights[:, 0] @ hidden_states, weights if output_attentions and not self.silent else None


def test_the_nearest_layer_before_serves_else_the_first_after():
    assert [serving(layer, (3, 7)) for layer in range(10)] == [3, 3, 3, 3, 3, 3, 3, 7, 7, 7]
    assert serving(2, ()) is None


def test_how_each_kind_is_found(tiny_model):
    from tests.families.modeling_doubles import DoubleConfig, MolmoAttention

    layers = [nn.Linear(2, 2), nn.Sequential(OwnAttention()), nn.Sequential(MolmoAttention(DoubleConfig()))]
    assert {n: one.read for n, one in find_attention(layers).items()} == {1: Read.RETURNED, 2: Read.METHOD}
    own = find_attention(tiny_model.model.model.language_model.layers)
    assert {n: one.read for n, one in own.items()} == dict.fromkeys(range(3), Read.INTERFACE)


def test_weights_are_asked_for_and_hidden_again():
    attention, told = find_attention([nn.Sequential(OwnAttention())])[0], {}
    states, rows = torch.randn(2, 5, 3), torch.rand(3, 2, 5)
    undo = read_past_interface(attention, lambda layer, scores_of: told.update({layer: scores_of(rows)}))
    _, weights = attention.module(hidden_states=states)
    undo()
    whole = (states @ states.mT).softmax(dim=-1)
    expected = torch.stack([torch.stack([rows[s, b] @ whole[b] for b in range(2)]) for s in range(3)])
    assert weights is None and torch.allclose(told[0], expected, atol=1e-6)
    assert attention.module(states, True)[1] is not None, "hooks are gone"


def test_attention_that_gives_no_weights_is_told():
    attention = find_attention([nn.Sequential(OwnAttention())])[0]
    attention.module.silent = True
    undo = read_past_interface(attention, lambda *_: None)
    with pytest.raises(CalibrationError, match=r"OwnAttention in layer 0 gives no attention weights; load .*'eager'"):
        attention.module(hidden_states=torch.randn(1, 2, 3))
    undo()


def test_a_model_whose_attention_cannot_be_read_keeps_the_other_signals(tiny_model, tiny_samples, monkeypatch):
    monkeypatch.setattr(probing, "find_attention", lambda layers: {})
    with pytest.raises(CalibrationError, match=r"No layer of Qwen3VLMoe.*Looked for .*found: Qwen3VLMoeTextAttention"):
        Probe(tiny_model, ("text_attention", "diversity"), print)
    seen = []
    with Probe(tiny_model, ("duplication", "diversity"), seen.append) as probe:
        probe.run(tiny_model.encode(tiny_samples[:2]))
    assert len(seen) == len(tiny_model.banks) and set(seen[0].importance) == {"duplication", "diversity"}


def test_nothing_stays_in_place_where_entering_fails(tiny_model, monkeypatch):
    config = tiny_model.model.config.get_text_config()
    before = config._attn_implementation, config._experts_implementation
    broken = replace(next(iter(tiny_model.banks.values())), reached=Reached.CALL)

    def refuse(*_):
        raise CalibrationError("no router")

    monkeypatch.setattr(probing, "watch_bank", refuse)
    monkeypatch.setattr(tiny_model, "banks", tiny_model.banks | {broken.name: broken})
    with pytest.raises(CalibrationError, match="no router"), Probe(tiny_model, ("duplication",), print):
        pass
    assert (config._attn_implementation, config._experts_implementation) == before and not PROBES
    assert not tiny_model.model.model.language_model.layers[0]._forward_pre_hooks


def test_the_probes_kernel_goes_by_both_names():
    name = Kernel("sdpa")
    assert name in ("eager", "sdpa") and name == "sdpa" and name == "mode_probe_sdpa" and name != "eager"
    assert {"mode_probe_sdpa": 1}[name] == 1 and {"sdpa": 1}.get(name) is None


def batch() -> Encoded:
    """One sample: text, mark, two vision tokens, mark, text, padding."""
    modality = torch.tensor([[TEXT, TEXT, VISION, VISION, TEXT, TEXT, PADDING]], dtype=torch.int8)
    marks = torch.tensor([[0, 1, 1, 1, 1, 0, 0]])
    none = torch.zeros_like(modality, dtype=torch.bool)
    return Encoded({"moe_mm_token_type_ids": marks}, modality, none, none, none, ("a",))


def test_rows_of_a_bank_that_sees_a_part():
    encoded, states = batch(), torch.randn(1, 7, 4)
    parts, bank = Parts(encoded), SimpleNamespace(name="vision", layer=1)
    parts.enters(1, states)
    assert parts.rows(bank, states[0]) is None
    rows = parts.rows(bank, states[0, 1:5])
    assert rows.tolist() == [1, 2, 3, 4]
    assert parts.only(rows).modality.tolist() == [[PADDING, TEXT, VISION, VISION, TEXT, PADDING, PADDING]]
    others = parts.rows(bank, states[0, [0, 5, 6]])
    assert parts.only(others).modality.tolist() == [[TEXT, *[PADDING] * 4, TEXT, PADDING]]
    assert parts.rows(bank, states[0, 1:5]) is rows and encoded.modality[0, 2] == VISION


@pytest.mark.parametrize("rows", [[2, 1, 3, 4], [0, 1, 2], [1, 2, 3, 4, 5]])
def test_a_part_that_no_mask_tells_is_refused(rows):
    parts, states = Parts(batch()), torch.randn(1, 7, 4)
    parts.enters(1, states)
    with pytest.raises(CalibrationError, match=f"vision sees {len(rows)} of 7 positions, and no mask of the inputs"):
        parts.rows(SimpleNamespace(name="vision", layer=1), states[0, rows])
