"""The verb `allocate`: a run and a request → every expert's bits, proven optimal."""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from mode_core.allocation import Price
from mode_core.cli.arguments import add_request, add_settings, read_quantizer, read_request
from mode_core.errors import SettingsError
from mode_core.importance import support, support_summary
from mode_core.jobs import ProgressHook
from mode_core.modalities import TEXT_TOKENS
from mode_core.request import AllocationRequest, Quantizer
from mode_core.runs.run import Run
from mode_core.statistics import ExpertStatistics

Result = dict[str, object]
COUNTED = ("method", "group_size", "symmetric", "attention_bits", "shared_bits")  # of a quantizer, what decides bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked for, and whose bytes count."""
    add_request(parser)
    add_settings(parser, Quantizer(), "whose bytes count (of attention and shared experts: --model-mb)", COUNTED)
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the model's own Python code to learn its parts there"
    )
    parser.add_argument(
        "--traffic",
        type=Path,
        metavar="FILE",
        help="frequencies of what was served: routed_experts of vLLM or SGLang (JSON Lines), or its recorder (.pt)",
    )
    parser.add_argument(
        "--prices", action="store_true", help="also solve every other unit and scope at this budget, to see their price"
    )


def allocate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """A run and a request → an allocation, proven optimal."""
    run, request = Run.open(options.run), read_request(options)
    statistics, traffic = _with_traffic(options, run, request, run.measured())
    request = replace(request, traffic=statistics.settings.get("traffic", ""))
    quantizer = read_quantizer(options).fitted(statistics)
    asked = (statistics, quantizer, _fixed_bytes(options, run, request, quantizer))
    allocation = request.solve(*asked)
    if traffic:
        allocation = replace(allocation, settings=dict(allocation.settings) | {"traffic": traffic["file"]})
    if options.name:
        run.save_allocation(options.name, allocation)
    if options.out:
        allocation.save(options.out)
    counts = Counter(np.concatenate([bits.ravel() for bits in allocation.bits.values()]).tolist())
    each = "experts" if request.unit in ("expert", "layer") else "gate+up and down matrices"
    result = {
        "method": request.method,
        "average_bits": allocation.average_bits,
        f"{each.replace(' ', '_')}_at_each_width": {f"{width} bits": counts.get(width, 0) for width in request.widths},
        "predicted_damage": allocation.objective,
        "lower_bound": allocation.lower_bound,
        "proven_optimal": allocation.proven_optimal,
        "solver_seconds": allocation.seconds,
        "packed_bytes": allocation.bytes,
        "support": support_summary(support(statistics, request.key_ratio, request.signal, request.min_support)),
        "kept_as": options.name or options.out or "nowhere (give --name or --out)",
    }
    if traffic:
        result["traffic"] = traffic
    if fixed := allocation.settings.get("fixed_bytes"):
        result |= {"bytes_beside_the_experts": fixed, "model_bytes": fixed + (allocation.bytes or 0)}
    if warning := allocation.settings.get("warning"):
        result["warning"] = warning
    if options.prices:
        result["prices"] = dict(_price(price, allocation.objective) for price in request.prices(*asked))
    return result


def _with_traffic(
    options: argparse.Namespace, run: Run, request: AllocationRequest, statistics: ExpertStatistics
) -> tuple[ExpertStatistics, Result]:
    """The statistics, with a trace's frequencies where one is given, and what is said about it."""
    if options.traffic is None:
        return statistics, {}
    from mode_core import traffic

    if not traffic.follows_frequencies(statistics, request.costs):
        raise SettingsError(f"{request.method} does not look at frequencies, so traffic changes nothing; try mode.")
    profile = traffic.read_traffic(
        options.traffic, statistics, *traffic.token_ids(run.model_source, options.trust_remote_code)
    )
    return traffic.with_traffic(statistics, profile), {
        "file": str(options.traffic),
        "requests": profile.requests,
        "tokens": profile.tokens if profile.told else {"all": profile.tokens[TEXT_TOKENS]},
        "kinds": traffic.kinds_told(profile),
        "distance_to_calibration": traffic.distances(statistics, profile),
        "used_but_never_calibrated": traffic.never_calibrated(statistics, profile),
    }


def _fixed_bytes(options: argparse.Namespace, run: Run, request: AllocationRequest, quantizer: Quantizer) -> int:
    """Bytes of all that is not a routed expert, where the budget is that of the whole model."""
    if request.measure != "model_bytes":
        if quantizer.attention_bits or quantizer.shared_bits:
            raise SettingsError("--attention-bits and --shared-bits belong to --model-mb, the whole model's budget.")
        return 0
    from mode_core.quantization import rest_bytes

    if not run.model_source:
        raise SettingsError(
            f"The run {run.path} names no model, so --model-mb cannot count what surrounds the experts."
        )
    around = {"trust_remote_code": options.trust_remote_code, **quantizer.grid}
    return rest_bytes(run.model_source, quantizer.attention_bits, quantizer.shared_bits, **around)


def _price(price: Price, chosen: float) -> tuple[str, str]:
    """ "unit, scope", and its predicted damage, with how many times that of the chosen one it is."""
    name = f"{price.unit}, {price.scope}"
    if price.allocation is None:
        return name, f"not possible: {price.refused}"
    times = price.times(chosen)
    return name, f"{price.allocation.objective:.4g}" + ("" if times is None else f" ({times:.3g} times)")
