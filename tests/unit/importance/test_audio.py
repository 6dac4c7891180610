"""Audio as a kind of its own in statistics and costs; without audio every number stays what it was."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load

from mode_core.errors import ImportanceError
from mode_core.importance import cost_table, frequencies
from mode_core.importance.folds import used_folds
from mode_core.importance.support import support, support_summary
from mode_core.modalities import KINDS, MODALITIES, USUAL, counted_of, kinds_of, shown_of
from mode_core.request import AllocationRequest
from mode_core.statistics import ExpertStatistics
from mode_core.traffic.applying import with_traffic
from mode_core.traffic.profile import TrafficError, TrafficProfile
from tests.synthetic import synthetic_statistics, with_audio

RUN = Path(__file__).resolve().parents[3] / "sample_data" / "run" / "statistics.safetensors"
BEFORE = {  # Σ cost × place of the bundled run at α = 0.7, frozen before audio became a kind of token
    "mode": "0x1.1061c2eecd555p+13",
    "mode_soft_fisher": "0x1.3ce1bac060c2ep+2",
    "mode_fisher": "0x1.76c67c7dce2b1p+1",
    "mode_output": "0x1.5bc8632655930p+6",
    "soft_fisher": "0x1.61ac2a2fa4e2fp+0",
    "frequency": "0x1.fe83790bb9112p+10",
    "mc": "0x1.175dc14a8aea6p+19",
    "mc_released": "0x1.6ed5c13844435p+10",
    "mopeq": "0x1.7118deb4d662bp+8",
    "veq": "0x1.baaa774ff1626p+12",
    "fisher": "0x1.9c9651e9da740p-1",
    "text_and_vision": "0x1.0ce0a28321306p+13",
    "text_and_redundant": "0x1.0c119b07d2143p+13",
    "frequency_only": "0x1.0e05cd2f7c168p+6",
    "sensitivity_only": "0x1.b270f17bfad56p+12",
}


def parts(path: Path) -> tuple[dict, dict, dict]:
    """A statistics file, whatever the order of its settings."""
    with safe_open(path, framework="np") as file:
        told = file.metadata()
    data = path.read_bytes()
    tensors = {name: array.tobytes() for name, array in load(data).items()}
    return json.loads(told.pop("statistics")), told, tensors


def test_without_audio_costs_files_and_digests_are_what_they_were(tmp_path):
    statistics = ExpertStatistics.load(RUN)
    for method, number in BEFORE.items():
        table = cost_table(statistics, method, vision_weight=0.7, bits=statistics.bits[:2], audio_weight=5.0)
        found = sum((c * (1 + np.arange(c.size).reshape(c.shape))).sum() for c in table.costs.values())
        assert found == pytest.approx(float.fromhex(number), rel=1e-15), method
        assert "audio_weight" not in table.settings
    statistics.save(tmp_path / "again")
    assert parts(tmp_path / "again") == parts(RUN) and statistics.digest() == "56b448c8e00fcd0a"
    assert AllocationRequest().digest == "4b194752804269ac"
    assert AllocationRequest(audio_weight=2.0).digest != AllocationRequest().digest


def test_the_kinds_are_data():
    assert kinds_of(USUAL) == ("text", "vision", "key", "redundant", "all") and counted_of(USUAL) == ("text", "key")
    assert kinds_of(MODALITIES) == tuple(KINDS) and counted_of(MODALITIES) == ("text", "key", "key_audio")
    assert shown_of(MODALITIES) == ("text", "vision", "key", "audio", "key_audio")


def test_audio_in_statistics_frequencies_and_costs(tmp_path):
    """Audio tokens choose as vision tokens do, in reverse order of experts; so do their costs."""
    plain = synthetic_statistics(2, 6, extras=("gradients", "saliency"))
    made = with_audio(plain)
    made.save(tmp_path / "s")
    again = ExpertStatistics.load(tmp_path / "s")
    assert again.modalities == ("text", "vision", "audio") and again.digest() == made.digest() != plain.digest()
    total = replace(made, samples=()) + replace(plain, samples=())  # one part of a run saw no sound
    for name, bank in total.banks.items():
        assert bank.tokens_by_fold("audio").sum() == made.banks[name].tokens_by_fold("audio").sum() > 0
        assert bank.tokens_by_fold("text").sum() == 2 * plain.banks[name].tokens_by_fold("text").sum()
    for name, shares in frequencies(made).items():
        np.testing.assert_allclose(shares.key_audio, shares.key[::-1])
        np.testing.assert_allclose(shares.redundant_audio, shares.redundant[::-1])
        counts = [made.banks[name].text("selections")]
        counts += [made.banks[name].total(f"{kind}_selections/text_attention").sum(-1) for kind in ("vision", "audio")]
        np.testing.assert_allclose(shares.all, sum(counts) / np.sum(counts))
        assert frequencies(plain)[name].audio is None
    for method in ("mode", "mode_fisher", "reap", "frequency_only"):
        both, deaf = (cost_table(made, method, audio_weight=weight) for weight in (1.0, 0.0))
        seen, blind = (cost_table(plain, method, vision_weight=weight) for weight in (1.0, 0.0))
        for name in both:
            np.testing.assert_allclose(deaf[name], seen[name])
            if method in ("mode_fisher", "reap", "frequency_only"):
                np.testing.assert_allclose(both[name] - deaf[name], (seen[name] - blind[name])[::-1], atol=1e-12)
            assert (both[name] > deaf[name]).any()
        assert both.settings["audio_weight"] == 1.0
    one, two = (cost_table(made, "mode", audio_weight=weight) for weight in (1.0, 2.0))
    base = cost_table(made, "mode", audio_weight=0.0)
    for name in one:
        np.testing.assert_allclose(two[name] - base[name], 2 * (one[name] - base[name]))
    assert used_folds(made) == list(range(8))
    told = support_summary(support(made))
    assert told["no_key_audio_tokens"] == 0 and "no_key_audio_tokens" not in support_summary(support(plain))


def test_what_is_refused():
    made = with_audio(synthetic_statistics(1, 4, extras=("logit_kl",)))
    with pytest.raises(ImportanceError, match="audio_weight must be a number of at least 0; got -1"):
        cost_table(made, "mode", audio_weight=-1)
    with pytest.raises(
        ImportanceError, match=r"not measured for key audio tokens.*another method, or give them the wei"
    ):
        cost_table(made, "logit_kl")
    assert cost_table(made, "logit_kl", audio_weight=0)
    with pytest.raises(TrafficError, match="calibrated with sounds, and a trace does not tell audio tokens from text"):
        with_traffic(made, TrafficProfile([bank.shape for bank in made]))
