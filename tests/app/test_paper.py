"""What is taken along to a paper: PDF with its fonts, the kit's zip, LaTeX, BibTeX and the paragraph."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace

import pandas as pd
import pypdf
import pytest

from dashboard.parts.export import paper_texts
from dashboard.shell.paper import PictureError, kit, pdf
from mode_core.importance import METHODS
from mode_core.request import AllocationRequest, Quantizer

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="88mm" height="44mm" viewBox="0 0 440 220">'
    '<rect width="440" height="220" style="fill: #fff"/><text x="9" y="40" font-family="sans-serif">{}</text></svg>'
)


def test_a_pdf_has_the_fonts_and_the_width_of_a_column():
    page = pypdf.PdfReader(io.BytesIO(pdf(SVG.format("denoised").encode()))).pages[0]
    assert [float(size) * 25.4 / 72 for size in page.mediabox[2:]] == pytest.approx([88, 44], abs=0.1)
    (font,) = (one.get_object() for one in page["/Resources"]["/Font"].values())
    inner = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
    assert {"/FontFile2", "/FontFile3"} & set(inner) and page.extract_text().strip() == "denoised"


@pytest.mark.parametrize(
    "inside, told",
    [
        ('<image href="/etc/hostname"/>', "refers to '/etc/hostname'"),
        ('<image xmlns:x="http://www.w3.org/1999/xlink" x:href="https://example.com/a.png"/>', "refers to 'https:"),
        ("<rect style=\"fill: url( 'file:///a')\"/>", "refers to"),
        ("<text", "is no SVG"),
    ],
)
def test_a_picture_that_names_something_outside_is_refused(inside: str, told: str):
    with pytest.raises(PictureError, match=told):
        pdf(SVG.replace("<text", f"{inside}<text", 1).format("").encode())


def test_another_xml_is_no_picture():
    with pytest.raises(PictureError, match=r"could not be made a PDF: [^\n]*$"):
        pdf(b"<a/>")


def test_the_kit_holds_texts_and_both_forms_of_each_figure():
    sent = {"files": {"tables/a.tex": "x & y"}, "figures": {"maps-1": SVG.format("é")}}
    with zipfile.ZipFile(io.BytesIO(kit(json.dumps(sent).encode()))) as held:
        assert set(held.namelist()) == {"tables/a.tex", "figures/maps-1.svg", "figures/maps-1.pdf"}
        assert held.read("figures/maps-1.svg").decode() == SVG.format("é")
        assert held.read("figures/maps-1.pdf").startswith(b"%PDF")


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", ".a", ""])
def test_the_kit_takes_no_name_that_leads_elsewhere(name: str):
    with pytest.raises(PictureError, match="is no name"):
        kit(json.dumps({"files": {name: ""}, "figures": {}}).encode())


def test_the_kit_says_what_it_expects():
    with pytest.raises(PictureError, match="Expected files and figures by name"):
        kit(b"[]")


def test_latex_is_escaped_and_methods_are_in_words():
    made = paper_texts.table(pd.DataFrame({"method": ["mode_fisher"], "50 %": ["a_b & {λ}"]}), "1 % #", "one")
    assert r"a\_b \& \{$\lambda$\}" in made and r"50 \%" in made and r"\caption{1 \% \#}" in made
    assert METHODS["mode_fisher"].title in made and r"\label{tab:one}" in made and r"\toprule" in made


def test_every_source_of_the_records_gets_an_entry():
    found = paper_texts.cited(METHODS, "rater_attention")
    numbers = {number for method in METHODS.values() for number in re.findall(r"\d{4}\.\d{5}", method.source)}
    assert set(found) == numbers | {"2410.04417"} and found["2606.17118"] == "MODE"
    assert found["2410.06270"] == "Mixture Compressor" and found["2510.13999"] == "REAP"
    made = paper_texts.bibtex({"2606.17118": "MODE"})
    assert (
        "@misc{arxiv:2606.17118," in made and "eprint = {2606.17118}" in made and "author" not in made.split("note")[0]
    )


def test_the_paragraph_states_every_setting(bundled_run):
    statistics = bundled_run.statistics
    asked = AllocationRequest("mode", key_ratio=0.3, vision_weight=2.0, shrinkage=0.25, budget=2.75, pins=((0, 1, 4),),
                              at_least=((4, 1),))  # fmt: skip
    asked = asked.fitted(statistics)
    found = asked.solve(statistics)
    made = paper_texts.methods_paragraph(asked, Quantizer(group_size=32).fitted(statistics), found, statistics)
    for part in ("chosen by MODE: ", "attention has 16 bits (untouched)", r"30 \%", "weighed 2 against text",
                 "by 0.25 of the way", "2.75 bits", "per bank", "At least 1 units have 4 bits",
                 "1 expert had a width set by hand", "proven optimality", r"\cite{arxiv:2606.17118}"):  # fmt: skip
        assert part in made, part
    free = replace(asked, method="frequency", equality=True)
    assert "against text" not in paper_texts.methods_paragraph(free, Quantizer(), found, statistics)  # it has no α
