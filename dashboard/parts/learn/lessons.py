"""The seven lessons in words: what each says, its formula, and what every symbol of it means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lesson:
    """One step: its name in the row of steps, a title, what it says, a formula and its symbols, where it leads."""

    key: str
    label: str
    title: str
    claim: str
    formula: str
    symbols: tuple[tuple[str, str], ...]
    page: str
    button: str


LESSONS = (
    Lesson(
        "router",
        "Router",
        "A router decides who works",
        "A layer holds many **experts**, and each token visits only a few of them. The router scores all and takes the "
        "best k. Every expert takes memory all the time; few of them do most of the work.",
        r"y(x)=\sum_{e\,\in\,\mathrm{Top}_k(x)} g_e(x)\,E_e(x)",
        (
            ("x", "a token's hidden state"),
            (r"\mathrm{Top}_k(x)", "the k experts that the router scores highest for it"),
            ("g_e(x)", "routing weight: how much expert e counts"),
            ("E_e", "expert e, a small network"),
            ("y", "what the layer answers"),
        ),
        "experts",
        "Open Experts",
    ),
    Lesson(
        "frequency",
        "Frequency",
        "Count text and vision apart",
        "Who gets more bits? The obvious way is to count how often each expert is chosen. But pictures make far more "
        "tokens than text does, so **counting all together lets vision outvote text**.",
        r"f_M(e)=\frac{n_M(e)}{\sum_{e'} n_M(e')}",
        (
            ("M", "a kind of token: text, vision, or all together"),
            ("n_M(e)", "how often tokens of that kind chose expert e"),
            ("f_M(e)", "frequency: e's share of the choices; adds up to 1 over the layer"),
        ),
        "experts",
        "Open Experts, by rank",
    ),
    Lesson(
        "redundancy",
        "Redundancy",
        "Most vision tokens are background",
        "A picture becomes many tokens, and few of them tell anything. How much **attention the text pays** to each "
        "says which: the best share ρ are *key*, the rest *redundant*.",
        r"p_j=\frac{1}{H\,|Q|}\sum_{h=1}^{H}\sum_{i\in Q}A^{(h)}_{ij}",
        (
            ("p_j", "importance of vision token j in this layer"),
            ("A^{(h)}_{ij}", "attention of head h from token i to token j"),
            ("Q", "the text tokens after the picture"),
            ("H", "number of heads"),
            (r"\rho", "key ratio: the share of best-ranked tokens that count as key"),
        ),
        "tokens",
        "Open Tokens",
    ),
    Lesson(
        "denoised",
        "Denoised",
        "Count key tokens only",
        "Redundant tokens crowd onto a few experts and hide what the telling ones need. Leaving them out gives the "
        "**denoised frequency**. The ranking is kept in steps of 1 %, so ρ can be turned without the model.",
        r"f_{\mathrm{key}}(e;\rho)=\frac{\sum_{j:\,r_j<\rho N}[\,e\in\mathrm{Top}_k(x_j)\,]}"
        r"{\sum_{e'}\sum_{j:\,r_j<\rho N}[\,e'\in\mathrm{Top}_k(x_j)\,]}",
        (
            ("r_j", "rank of vision token j by importance, 0 is best"),
            ("N", "vision tokens of the sample"),
            (r"[\,\cdot\,]", "1 where true, else 0"),
            (r"\rho", "key ratio"),
        ),
        "experts",
        "Open Experts, as difference",
    ),
    Lesson(
        "sensitivity",
        "Sensitivity",
        "Some experts are hurt more",
        "Rounding an expert's weights to b bits changes what it answers. How much, is measured on the **tokens that "
        "really visit it**, for text and for key vision tokens apart.",
        r"\delta_M(e,b)=\frac{1}{|T_M(e)|}\sum_{x\in T_M(e)}\frac{\lVert E_e(x)-E_e^{(b)}(x)\rVert^2}{d}",
        (
            ("T_M(e)", "tokens of kind M that visit expert e"),
            ("E_e^{(b)}", "expert e with its weights rounded to b bits"),
            ("d", "length of the hidden state"),
            (r"\delta_M(e,b)", "sensitivity: the mean squared error"),
        ),
        "experts",
        "Open Experts",
    ),
    Lesson(
        "program",
        "Allocation",
        "Spend bits where they save most",
        "How often used times how much hurt is what an expert has **at stake**. An exact solver then gives one width "
        "to every expert so that the summed damage is least within the budget, and proves it.",
        r"\begin{gathered}c(e,b)=f_{\mathrm{text}}\,\delta_{\mathrm{text}}+\alpha f_{\mathrm{key}}\,"
        r"\delta_{\mathrm{key}}\\[2pt] \min_{z}\sum_{e,b} c(e,b)\,z_{eb}\;\;\text{s.t.}\;\sum_b z_{eb}=1,\;"
        r"\sum_{e,b} b\,z_{eb}\le n\,\bar b\end{gathered}",
        (
            ("z_{eb}", "1 if expert e gets b bits, else 0"),
            ("c(e,b)", "predicted damage of that choice"),
            (r"\alpha", "vision weight, 1 in the paper"),
            (r"n,\ \bar b", "number of experts, and bits on average: the budget"),
        ),
        "budget",
        "Open Budget",
    ),
    Lesson(
        "evidence",
        "Evidence",
        "Does it beat counting?",
        "All of this is only worth it if the quantized model **answers better at the same size**. So both are "
        "quantized for real, asked the same questions, and compared item by item.",
        r"\Delta=\frac{1}{n}\sum_{i=1}^{n}\bigl(m_i^{\mathrm{A}}-m_i^{\mathrm{B}}\bigr)",
        (
            (r"m_i^{\mathrm{A}}", "what method A's model scores on item i (KL to the original: less is better)"),
            (r"m_i^{\mathrm{B}}", "the same for method B, with as many bits"),
            (r"\Delta", "mean difference; its 95 % interval redraws items and calibrations"),
        ),
        "compare",
        "Open Compare",
    ),
)
