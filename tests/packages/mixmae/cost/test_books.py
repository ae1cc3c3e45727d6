"""The books agree: parameters and multiply-adds of the encoders against the literature, with the source of each."""

from dataclasses import dataclass, field

import pytest

from mixmae.cost.encoders import resolved_encoder, rows
from mixmae.encoders.families import variants

MIXMAE = "github.com/Sense-X/MixMIM @2b2f5a9 README.md"
SWIN = "github.com/microsoft/Swin-Transformer @f82860b README.md (FLOPs); timm @aa4b585 results-imagenet.csv (params)"
TWINS = "github.com/Meituan-AutoML/Twins @c1ff671 README.md"
PVT = "arXiv 2102.12122 (ICCV 2021), table 2; params also github.com/whai362/PVT @57e2dfa classification/README.md"
MMPRETRAIN = "github.com/open-mmlab/mmpretrain @ee7f2e88"


def attention_products(variant: str) -> int:
    """Multiply-adds at 224 px of q·k and attention·v in Twins-SVT, by hand: each token meets 7 x 7 keys in its window
    and, in every other block, the 7 x 7 reduced ones of the whole image."""
    config = resolved_encoder(variant, 224)
    tokens = [(224 // (config.patch_size * 2**stage)) ** 2 for stage in range(config.stages)]
    assert config.windows == (7, 7, 7, 7) and config.sr_ratios == (8, 4, 2, 1)
    return sum(n * 2 * 49 * w * depth for n, w, depth in zip(tokens, config.widths, config.depths, strict=True))


@dataclass(frozen=True)
class Book:
    """What is published of a variant. params: in millions; macs: in G; missing: what the published macs leave out."""

    variant: str
    params: float
    macs: float | None
    source: str
    size: int = 224
    part: str = "params_with_head"
    missing: dict[str, int] = field(default_factory=dict)


BOOKS = [
    Book("swin_tiny_w7", 28.29, 4.5, SWIN),
    Book("swin_small_w7", 49.61, 8.7, SWIN),
    Book("swin_base_w7", 87.77, 15.4, SWIN),
    Book("swin_large_w7", 197, 34.5, "github.com/microsoft/Swin-Transformer @f82860b README.md (row of IN-22K)"),
    Book("swin_base_w14", 88.34, 16.35, f"{MMPRETRAIN} configs/mixmim/metafile.yml; 88 and 16.3 in {MIXMAE}"),
    Book("swin_base_w14", 114.67, None, f"{MMPRETRAIN} configs/mixmim/README.md", part="params_with_decoder"),
    Book("swin_base_w14", 89.6, 52.6, f"{MIXMAE} (Swin-B/W16)", size=384),
    Book("swin_large_w14", 197, 35.9, MIXMAE),
    Book("swin_large_w14", 199, 112, f"{MIXMAE} (Swin-L/W16)", size=384),
    *(
        Book(name, params, macs, TWINS, missing={"the products of attention": attention_products(name)})
        for name, params, macs in (
            ("twins_svt_small", 24, 2.8),
            ("twins_svt_base", 56, 8.3),
            ("twins_svt_large", 99.2, 14.8),
        )
    ),
    Book("pvt_tiny", 13.2, 1.9, PVT),
    Book("pvt_small", 24.5, 3.8, PVT),
    Book("pvt_medium", 44.2, 6.7, PVT),
    Book("pvt_large", 61.4, 9.8, PVT),
    Book("vit_base_p16", 86.57, 17.58, f"{MMPRETRAIN} configs/mae/README.md"),
    Book("vit_large_p16", 304.32, 61.6, f"{MMPRETRAIN} configs/mae/README.md"),
]


def ours(book: Book) -> dict:
    row = next(row for row in rows() if row["name"] == book.variant)
    if row["image_size"] == book.size:
        return row
    return next(other for other in row["other_sizes"] if other["image_size"] == book.size)


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: f"{book.variant}-{book.size}-{book.part}")
def test_agrees_with_what_is_published(book):
    row = ours(book)
    assert row[book.part] / 1e6 == pytest.approx(book.params, rel=0.005), book.source
    if book.macs is not None:
        published = book.macs + sum(book.missing.values()) / 1e9
        head = row["params_with_head"] - row["params"]
        assert (row["macs"] + head) / 1e9 == pytest.approx(published, rel=0.02), book.source


def test_few_published_figures_need_a_term():
    terms = [book for book in BOOKS if book.missing]
    assert len(terms) <= 3
    for book in terms:
        assert (ours(book)["macs"] / 1e9) > book.macs * 1.02, "without the term the figures would not agree"


def test_timm_counts_what_twins_leaves_out():
    """timm's model card of twins_svt_large.in1k says 15.1 GMACs."""
    assert ours(Book("twins_svt_large", 99.3, 15.1, ""))["macs"] / 1e9 == pytest.approx(15.1, rel=0.005)


def test_the_row_of_384_px_has_the_published_windows():
    larger = [row["name"] for row in rows() if row["other_sizes"]]
    assert [(book.variant, 384) for book in BOOKS if book.size == 384] == [(name, 384) for name in larger]
    for name in larger:
        (other,) = next(row for row in rows() if row["name"] == name)["other_sizes"]
        assert other["windows"] == [16, 16, 24, 12]  # models_mixmim_ft.py @2b2f5a9


def test_the_table_has_every_variant_in_order():
    assert [row["name"] for row in rows()] == list(variants())
