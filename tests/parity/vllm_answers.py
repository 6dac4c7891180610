"""What vLLM on a CPU answers to prompts with and without a picture; a program for an environment that has vLLM.

    python -m tests.parity.vllm_answers CHECKPOINT PROMPTS.json FOUND.safetensors

`PROMPTS.json` lists `{"ids": […], "image": path or null}`, one image placeholder a picture. Found: for prompt `n` the
tokens chosen greedily (`n.tokens`), the log-probabilities of the whole vocabulary at each step (`n.log`
`[steps, vocabulary]`), and (`layer.bits`) the width of every packed layer as vLLM's own configuration told it.

vLLM has no kernel for packed experts on a CPU. Its configuration, its buffers and its loader are used as they are; then
the experts are unpacked by Python's own integers (`tests.packed`) and multiplied as plain float32.
"""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the methods below are of this process
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
TOKENS = 4
FOUND: dict[str, int] = {}


def emulate() -> None:
    """Put unpack-then-multiply in the place of vLLM's kernels for packed experts, where its own configurations ask for
    them."""
    import torch
    from vllm.model_executor.layers.fused_moe import UnquantizedFusedMoEMethod
    from vllm.model_executor.layers.quantization import auto_gptq
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
        compressed_tensors_moe_wna16 as compressed,
    )
    from vllm.model_executor.layers.quantization.inc.inc import INCConfig
    from vllm.model_executor.layers.quantization.inc.schemes import inc_wna16_scheme

    from tests.packed import read_bits

    class Emulated(UnquantizedFusedMoEMethod):
        def process_weights_after_loading(self, layer) -> None:
            for side in ("w13", "w2"):
                rows = [self.matrix(layer, side, expert) for expert in range(self.moe.num_local_experts)]
                value = torch.from_numpy(np.stack(rows)).float()
                layer.register_parameter(f"{side}_weight", torch.nn.Parameter(value, requires_grad=False))
            FOUND[layer.layer_name] = self.num_bits
            super().process_weights_after_loading(layer)

    class Compressed(Emulated):
        create_weights = compressed.CompressedTensorsWNA16MoEMethod.create_weights
        get_weight_shape = compressed.CompressedTensorsWNA16MoEMethod.get_weight_shape

        def __init__(self, weights, inputs, moe, layer_name=None) -> None:
            super().__init__(moe)
            assert inputs is None
            self.num_bits, self.symmetric, self.strategy = weights.num_bits, weights.symmetric, weights.strategy
            self.group_size, self.packed_factor = weights.group_size, Fraction(32, weights.num_bits)

        def matrix(self, layer, side: str, expert: int) -> np.ndarray:
            words, scales = (getattr(layer, f"{side}_weight_{part}")[expert] for part in ("packed", "scale"))
            codes = np.stack([read_bits(row, self.num_bits) for row in words.numpy()])
            if self.symmetric:
                points = 2 ** (self.num_bits - 1)
            else:
                stored = getattr(layer, f"{side}_weight_zero_point")[expert].numpy()
                points = np.stack([read_bits(column, self.num_bits) for column in stored.T]).T
                points = points.repeat(self.group_size, axis=1)
            return (codes - points) * scales.float().numpy().repeat(self.group_size, axis=1)

    class AutoRound(Emulated):
        create_weights = auto_gptq.AutoGPTQMoEMethod.create_weights
        input_dtype = None

        def __init__(self, moe, told) -> None:
            super().__init__(moe)
            self.num_bits, self.symmetric, self.group_size = told.bits, told.sym, told.group_size
            self.quant_config = SimpleNamespace(group_size=told.group_size, pack_factor=Fraction(32, told.bits))

        def matrix(self, layer, side: str, expert: int) -> np.ndarray:
            words, scales = (getattr(layer, f"{side}_{part}")[expert] for part in ("qweight", "scales"))
            codes = np.stack([read_bits(column, self.num_bits) for column in words.numpy().T])
            return (codes - 2 ** (self.num_bits - 1)) * scales.float().numpy().T.repeat(self.group_size, axis=1)

        def process_weights_after_loading(self, layer) -> None:
            for name in ("w13_bias", "w2_bias"):
                layer.register_parameter(name, None)
            super().process_weights_after_loading(layer)

    def own_method(_scheme, _config, layer, _prefix, told):
        assert told.is_gptq
        assert told.sym
        return AutoRound(layer.moe_config, told)

    compressed.CompressedTensorsWNA16MoEMethod = Compressed
    inc_wna16_scheme.INCWna16Scheme.get_moe_method = own_method
    INCConfig.get_supported_act_dtypes = classmethod(lambda _cls: [torch.float32])  # its kernels know 16 bits alone


def main(folder: str, asked: str, found: str) -> None:
    """Answer all prompts of a file."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file
    from vllm import LLM, SamplingParams

    emulate()
    wanted = json.loads(Path(asked).read_text(encoding="utf-8"))
    prompts = [
        {"prompt_token_ids": one["ids"]}
        | ({} if one["image"] is None else {"multi_modal_data": {"image": Image.open(one["image"]).convert("RGB")}})
        for one in wanted
    ]
    engine = LLM(
        model=folder, dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=8, max_logprobs=-1, seed=0,
        limit_mm_per_prompt={"image": 1}, enable_prefix_caching=False,
    )  # fmt: skip
    greedy = SamplingParams(temperature=0.0, max_tokens=TOKENS, logprobs=-1, detokenize=False)
    tensors = {f"{name}.bits": torch.tensor(bits) for name, bits in FOUND.items()}
    for number, answer in enumerate(engine.generate(prompts, greedy)):
        (made,) = answer.outputs
        rows = [[step[token].logprob for token in range(len(step))] for step in made.logprobs]
        tensors |= {f"{number}.tokens": torch.tensor(made.token_ids), f"{number}.log": torch.tensor(rows)}
    save_file(tensors, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
