"""A pass that begins in the middle gives the same logits, and runs nothing of what lies before."""

import pytest
import torch

from mode_core.probing.replay import Replay


@pytest.fixture
def recorded(tiny_model, tiny_samples):
    encoded = tiny_model.encode(tiny_samples[:3])
    layers = tiny_model.model.model.language_model.layers
    replay = Replay(tiny_model.model, layers)
    with replay.recording():
        logits = run(tiny_model, encoded)
    return encoded, layers, replay, logits


def run(model, encoded):
    with torch.no_grad():
        return model.model(**encoded.inputs, use_cache=False).logits


@pytest.mark.parametrize("first", [0, 1, 2])
def test_same_logits_and_no_work_before(tiny_model, recorded, first):
    encoded, layers, replay, logits = recorded
    called = []
    watched = [tiny_model.model.model.visual.blocks[0], *(layer.self_attn for layer in layers)]
    hooks = [m.register_forward_hook(lambda m, *_: called.append(m)) for m in watched]
    for _ in range(2):  # what is replayed stays as it was
        with replay.from_layer(first):
            assert torch.equal(run(tiny_model, encoded), logits)
    assert called == [layer.self_attn for layer in layers[first:]] * 2
    called.clear()
    assert torch.equal(run(tiny_model, encoded), logits) and called == watched  # and all is put back
    for hook in hooks:
        hook.remove()


def test_what_comes_later_still_counts(tiny_model, recorded):
    encoded, layers, replay, logits = recorded
    hook = layers[1].register_forward_hook(lambda _m, _a, output: output + 1)
    with replay.from_layer(1):
        begun_late = run(tiny_model, encoded)
    whole = run(tiny_model, encoded)
    hook.remove()
    assert torch.equal(begun_late, whole) and not torch.equal(whole, logits)


def test_it_does_not_work_where_something_is_missed(tiny_model, recorded):
    replay = recorded[2]

    def missed():
        raise KeyError("keys of layer 0")

    assert not replay.works(1, missed) and not replay.works(1, lambda: False) and replay.works(1, lambda: True)
    assert "forward" not in recorded[1][0].__dict__
