import re
import subprocess
import sys

import pytest
import yaml

from mixmae.weights.card import Facts, card, code, escaped, fenced, hub_card
from mixmae.weights.description import Description
from mixmae.weights.kinds import kinds
from support import small

NASTY = "a`b``c\n# heading\n---\n```\n| x | <script>alert(1)</script> [l](http://e) {{ x }}: 'q' \"d\" & *b* _i_"


def description(name="custom", classes=10):
    job = small.pretrain_job("mixmae", {**small.ENCODERS["swin"], "name": name})
    return Description(encoder=job.encoder, image_size=job.image_size, classes=classes)


def facts(**changed):
    found = {
        "run": "0123456789abcdef",
        "job": {
            "stage": "finetune",
            "data": {"name": "image_folder", "path": "/data/someone/private/imagenette"},
            "recipe": {"epochs": 100, "eval_crop": 0.875},
            "pretraining": "fedcba9876543210",
        },
        "pretraining": {"stage": "pretrain", "method": {"name": "mixmae"}, "data": {"name": "digits"}},
        "fingerprint": "00112233aabbccdd",
        "result": {"schema": 1, "top1": 84.5, "loss": 0.7},
        "environment": {"torch": "2.6.0", "mixmae": "0.1.0", "host": "secret-host", "python": "3.11"},
    }
    return Facts(**{**found, **changed})


def front_matter(text):
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


def test_a_run_says_all_that_is_known():
    text = card(description("swin_base_w14"), facts(), "import this", ["a note"])
    for said in ("classifier of 10 classes, pretrained with mixmae", "```python\nimport this\n```", "* a note"):
        assert said in text
    for said in ("`0123456789abcdef`", "`imagenette`", "`00112233aabbccdd`", "| top1 | 84.5 |", "torch: 2.6.0"):
        assert said in text
    assert "epochs: 100" in text and "name: mixmae" in text and "schema" not in text
    assert "under the MIT licence" in text


def test_no_folder_and_no_host_of_the_machine_is_told():
    started = {"path": "/data/someone/w.safetensors", "sha256": "0" * 64}
    one = facts(job={**facts().job, "weights": started}, pretraining=None)
    text = hub_card(card(description(), one, "", []), description(), one, "mixmae")
    assert "someone" not in text and "secret-host" not in text
    assert "`w.safetensors`" in text and "origin is unknown" in text


def test_what_is_not_known_stays_unknown():
    text = card(description(), Facts(), "x", [])
    assert "How it was trained is unknown." in text and "* torch: unknown" in text
    assert "## Result\n\nunknown" in text and "`unknown`, fingerprint `unknown`" in text
    matter = front_matter(hub_card(text, description(), Facts(), "mixmae"))
    assert matter["license"] == "unknown" and "model-index" not in matter and "metrics" not in matter
    text = card(description(), facts(pretraining=None), "x", [])
    assert "Its pretraining `fedcba9876543210`: unknown" in text


def test_front_matter_of_a_result():
    matter = front_matter(hub_card("", description(), facts(), "timm"))
    assert matter["library_name"] == "timm" and matter["pipeline_tag"] == "image-classification"
    assert matter["tags"] == ["mixmae", "masked-image-modeling", "swin"]
    (result,) = matter["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 84.5
    assert result["dataset"] == {"name": "imagenette", "type": "image_folder", "split": "val"}
    alone = front_matter(hub_card("", description(classes=None), facts(), "timm"))
    assert alone["pipeline_tag"] == "image-feature-extraction" and "model-index" not in alone


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("mixmae_pretrain", "no licence stated"),
        ("mae_vit_classifier", "CC-BY-NC 4.0"),
        ("mae_swin_pretrain", "CC-BY-NC 4.0"),
        ("simmim_swin_pretrain", "MIT"),
        ("pvt_classifier", "Apache 2.0"),
        ("twins_svt_classifier", "Apache 2.0"),
    ],
)
def test_imported_weights_carry_the_terms_of_their_repository(kind, terms):
    origin = {"kind": kind, "file": "m.pth", "sha256": "0" * 64}
    text = card(description(), Facts(origin=origin), "", [])
    assert f"under the terms of their repository: {terms} (github.com/" in text and "`m.pth`" in text
    trained = card(description(), facts(origin=origin), "", [])
    assert f"The weights they started from were published under the terms of their repository: {terms}" in trained
    matter = front_matter(hub_card("", description(), Facts(origin=origin), "mixmae"))
    assert matter["license"] == kinds()[kind].licence.hub
    assert front_matter(hub_card("", description(), facts(origin=origin), "mixmae"))["license"] == "unknown"


def test_every_kind_of_weights_has_terms():
    assert all(kind.licence.terms and kind.licence.repository for kind in kinds().values())


def test_what_users_write_cannot_break_out():
    job = {**facts().job, "note": NASTY, "data": {"name": "image_folder", "path": f"/x/{NASTY.replace('/', '')}"}}
    one = facts(job=job, result={"top1": 1.0, NASTY: NASTY}, environment={"torch": NASTY})
    text = card(description(NASTY), one, NASTY, [])
    outside = _without_code(text)
    assert "\n# heading" not in outside and not re.search(r"(?<!\\)<script", re.sub(r"(`+)[^`].*?[^`]\1", "", outside))
    assert [line for line in outside.splitlines() if line.startswith("#")][0].startswith("# a")
    headings = [line for line in outside.splitlines() if line.startswith("## ")]
    assert headings == ["## Loading", "## Result", "## Data", "## Recipe", "## Versions", "## Licence"]
    matter = front_matter(hub_card(text, description(NASTY), one, "mixmae"))
    assert matter["model-index"][0]["results"][0]["dataset"]["name"] == " ".join(NASTY.replace("/", "").split())
    assert hub_card(text, description(NASTY), one, "mixmae").endswith(text)


def _without_code(text):
    """The lines outside of fenced blocks, by CommonMark's rule: a fence ends at one at least as long."""
    lines, fence = [], None
    for line in text.splitlines():
        ticks = len(line) - len(line.lstrip("`"))
        if fence is None and ticks >= 3 and "`" not in line[ticks:]:
            fence = ticks
        elif fence is not None and ticks >= fence and not line.strip("`"):
            fence = None
        elif fence is None:
            lines.append(line)
    return "\n".join(lines)


def test_escapes():
    assert escaped("a\nb|<c>") == r"a b\|\<c\>"
    assert code("x") == "`x`" and code("`x") == "`` `x ``" and code("a``b") == "```a``b```"
    assert fenced("```\n", "yaml") == "````yaml\n```\n````"


def test_cards_load_no_torch():
    code = "import sys, mixmae.weights.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
