"""Every family that is tested: what its tiny model must show, and what is special about it. The table in
`mode_core/models/README.md` is made from this list."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One family. `layers` are the decoder layers with experts; `banks` how many of these banks there are in a layer.

    `storage` and `special` are words for the table; `examples` published models. `attention`: whole attention matrices
    come from the model itself ("own"), or from a function put in for the test ("wrapped"), to compare importance with.
    `hears`: milliseconds of sound that one audio token stands for, 0 where it hears nothing.
    """

    name: str
    title: str
    examples: str
    layers: tuple[int, ...]
    storage: str = "fused, out × in"
    special: str = ""
    banks: int = 1
    intermediate: tuple[int, ...] = (24,)
    hidden: int = 64
    gate: bool = True
    reached: str = "interface"
    pictures: bool = True
    hears: int = 0
    attention: str = "own"
    borrowed: tuple[tuple[int, int], ...] = ()  # layers without attention -> the layer that serves them

    @property
    def unrotated(self) -> str:
        """Why `rotate` refuses it, as the refusal says; "" where it does not."""
        return UNROTATED.get(self.name, "")

    @property
    def remote(self) -> bool:
        """Code that comes with the model."""
        return self.name in ("kimi_vl", "deepseek_vl2", "molmoe")


UNROTATED = {
    "ernie4_5_vl_moe": "normalizes what enters the residual stream",
    "gemma4": "normalizes what a block gives back",
    "mistral_large4": "normalizes again what reads the residual stream",
    "cohere2_vision_moe": "is no RMSNorm (it may subtract the mean)",
    "qwen4_exp": "its layers have no norms of one residual stream",
    "glm5_next": "something other than linear layers behind plain RMSNorms",
    "inkling": "is read by something other than linear layers",
    "inkling2": "normalizes what enters the residual stream",
    "muse_spark": "is no RMSNorm",
    "molmoe": "something other than linear layers behind plain RMSNorms",
    "deepseek_v4": "something other than linear layers behind plain RMSNorms",
}
TRANSPOSED = "fused, in × out"
LISTED = "a module per expert"

FAMILIES = (
    Family("qwen3_vl_moe", "Qwen3-VL-MoE", "Qwen3-VL-30B-A3B", (0, 2), special="dense layers in between are no banks"),
    Family(
        "qwen3_5_moe",
        "Qwen3.5-MoE",
        "Qwen3.5-35B-A3B",
        (0, 1, 2, 3, 4),
        special="three of four layers have linear attention: the nearest full attention at or before ranks their "
        "vision tokens, else the first after",
        borrowed=((0, 3), (1, 3), (2, 3), (4, 3)),
    ),
    Family(
        "qwen3_omni_moe_thinker",
        "Qwen3-Omni thinker",
        "the thinker of Qwen3-Omni-30B-A3B",
        (0, 1, 2),
        hears=80,
    ),
    Family("glm4v_moe", "GLM-4.5V", "GLM-4.5V", (1, 2), special="shared expert beside the bank; first layer dense"),
    Family("internvl_qwen3_moe", "InternVL with Qwen3-MoE", "InternVL3.5-30B-A3B", (0, 1, 2)),
    Family(
        "internvl_gpt_oss",
        "InternVL with gpt-oss",
        "InternVL3.5-GPT-OSS-20B-A4B",
        (0, 1, 2),
        storage=f"{TRANSPOSED}, gate and up in turns, biases",
        special="attention sinks take their share of every row; sliding windows",
    ),
    Family(
        "kimi_k25",
        "Kimi-K2.5",
        "Kimi-K2.5, Kimi-K2.6",
        (1, 2),
        special="DeepSeek-V3 inside: latent attention, selection bias in the router",
    ),
    Family(
        "ernie4_5_vl_moe",
        "ERNIE-4.5-VL",
        "ERNIE-4.5-VL-28B-A3B",
        (1, 2),
        banks=2,
        intermediate=(24, 16),
        special="two banks a layer: one sees text alone, the other vision tokens and the marks around pictures",
    ),
    Family(
        "gemma4",
        "Gemma 4 with experts",
        "Gemma 4 models with experts",
        (0, 1, 2),
        hears=40,
        special="experts beside a dense MLP; vision tokens see each other in both directions; sliding windows",
    ),
    Family("aria", "Aria", "Aria", (0, 1, 2), storage=TRANSPOSED, special="shared experts"),
    Family(
        "mistral3_mistral4", "Mistral 3 with Mistral 4 text", "Mistral-Small-4-119B", (1, 2), special="latent attention"
    ),
    Family(
        "mistral_large4",
        "Mistral Large 4",
        "Mistral-Large-4-1T-A52B",
        (1, 2),
        special="sparse attention with an index; the rows are those of the masked attention",
    ),
    Family(
        "minimax_m3_vl",
        "MiniMax-M3-VL",
        "MiniMax-M3",
        (0, 1, 2),
        special="block-sparse attention; output scaled behind the bank",
    ),
    Family("llava_mixtral", "LLaVA with Mixtral", "LLaVA around Mixtral", (0, 1, 2)),
    Family(
        "lfm2_vl_moe",
        "LFM2-VL with experts",
        "LFM2-VL around LFM2-8B-A1B",
        (1, 2),
        special="convolution layers have no attention: served as Qwen3.5's",
        borrowed=((2, 1),),
    ),
    Family(
        "cohere2_vision_moe",
        "Cohere2 Vision with experts",
        "Command A Vision around a Cohere2-MoE text model",
        (0, 1, 2),
    ),
    Family(
        "llama4",
        "Llama 4",
        "Llama-4-Scout, Llama-4-Maverick",
        (1, 3),
        storage=TRANSPOSED,
        reached="scaled_input",
        special="adapter: every expert computes every token, multiplied by its routing weight before; what an expert "
        "gets is the scaled token, and its output counts once",
    ),
    Family(
        "step3p7",
        "Step-3",
        "Step-3.7-Flash",
        (1, 2),
        reached="call",
        special="adapter: called past transformers' interface; clamped gate",
    ),
    Family("deepseek_ocr2", "DeepSeek-OCR-2", "DeepSeek-OCR-2", (1, 2), special="shared experts; first layer dense"),
    Family(
        "unlimited_ocr",
        "Unlimited-OCR",
        "Unlimited-OCR",
        (1, 2),
        special="shared experts; sliding windows for what it writes alone, so a pass over a sample attends to all",
    ),
    Family(
        "qwen4_exp",
        "Qwen4-Exp",
        "Qwen4-Exp",
        (0, 1, 2),
        special="several residual streams; linear attention as Qwen3.5's, the others sparse with an index",
        borrowed=((0, 1), (2, 1)),
    ),
    Family(
        "glm5_next",
        "GLM-5 Next",
        "GLM-5.3-Flash",
        (1, 2, 3),
        special="several residual streams; linear attention as Qwen3.5's, the others sparse with an index",
        borrowed=((3, 2),),
    ),
    Family(
        "inkling",
        "Inkling",
        "Inkling",
        (1, 2),
        special="a learned bias of relative positions in the attention; shared experts weighted by the router",
        hears=50,
    ),
    Family(
        "inkling2",
        "Inkling 2",
        "Inkling-2-Small",
        (0, 1, 2),
        special="as Inkling, with an attention sink for every row; softcapped experts; eager attention alone",
    ),
    Family(
        "muse_spark",
        "Muse Spark",
        "Muse-Spark-Open-816B-A42B",
        (1, 2),
        hidden=32,
        special="experts work on a narrower state, with a norm behind each",
        hears=80,
    ),
    Family(
        "dots3_note",
        "dots3-note",
        "dots3-note-prev",
        (1, 2),
        hears=80,
        special="sparse attention with an index; experts of its vision tower see patches, no tokens, and are no banks",
    ),
    Family(
        "nemotron_h_omni",
        "Nemotron-H Omni",
        "Nemotron-3-Nano-Omni-30B-A3B",
        (1, 3),
        gate=False,
        hears=80,
        special="Mamba, attention and experts in layers of their own; experts without a gate",
        borrowed=((1, 2), (3, 2)),
    ),
    Family(
        "kimi_vl",
        "Kimi-VL",
        "Kimi-VL-A3B",
        (1, 2),
        storage=LISTED,
        reached="list",
        special="code of its own, tested on a double; attention weights asked for layer by layer",
    ),
    Family(
        "deepseek_vl2",
        "DeepSeek-VL2",
        "DeepSeek-VL2, -Small, -Tiny",
        (1, 2),
        storage=LISTED,
        reached="list",
        special="code of its own, tested on a double; the image token is named by the processor alone",
    ),
    Family(
        "molmoe",
        "MolmoE",
        "MolmoE-1B",
        (0, 1, 2),
        storage=LISTED,
        reached="list",
        attention="wrapped",
        special="code of its own, tested on a double; the router gives scores, read as the softmax that reproduces "
        "the bank's output",
    ),
    Family("mixtral", "Mixtral", "Mixtral-8x7B", (0, 1, 2), pictures=False),
    Family("qwen3_moe", "Qwen3-MoE", "Qwen3-30B-A3B", (0, 2), pictures=False),
    Family("olmoe", "OLMoE", "OLMoE-1B-7B", (0, 1, 2), pictures=False),
    Family("deepseek_v2", "DeepSeek-V2", "DeepSeek-V2-Lite", (1, 2), pictures=False),
    Family("deepseek_v3", "DeepSeek-V3", "DeepSeek-V3", (1, 2), pictures=False),
    Family(
        "deepseek_v4",
        "DeepSeek-V4",
        "DeepSeek-V4",
        (0, 1, 2),
        special="in its first layers a table of tokens chooses the experts",
        pictures=False,
    ),
    Family("minimax_m2", "MiniMax-M2", "MiniMax-M2", (0, 1, 2), pictures=False),
    Family("glm4_moe", "GLM-4-MoE", "GLM-4.5, GLM-4.6", (1, 2), pictures=False),
    Family("gpt_oss", "gpt-oss", "gpt-oss-20b, gpt-oss-120b", (0, 1, 2), pictures=False),
    Family("qwen3_next", "Qwen3-Next", "Qwen3-Next-80B-A3B", (0, 1, 2), pictures=False),
    Family("hunyuan_v1_moe", "Hunyuan-MoE", "Hunyuan-A13B", (0, 1, 2), pictures=False),
    Family("ernie4_5_moe", "ERNIE-4.5", "ERNIE-4.5-21B-A3B", (1, 2), pictures=False),
    Family("granitemoehybrid", "Granite 4 with experts", "Granite-4.0-H-Tiny", (0, 1, 2), pictures=False),
)
