"""The table of encoder variants: what differs from the family's defaults, as plain data (no torch).

Sources: Swin (Liu et al. 2021, table 7), Twins-SVT (Chu et al. 2021, table 2), PVT v1 (Wang et al. 2021, table 1),
ViT (Dosovitskiy et al. 2021, table 1), MixMAE's Swin-B/L/H (official widths, heads and windows). `_nano` are ours:
three stages at patch 2, so that a 32 px image has 4 x 4 units of 8 px.
"""

_NANO = dict(patch_size=2, widths=(32, 64, 128), heads=(1, 2, 4))

_SWIN = {
    "tiny": dict(widths=(96, 192, 384, 768), depths=(2, 2, 6, 2), heads=(3, 6, 12, 24)),
    "small": dict(widths=(96, 192, 384, 768), depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
    "base": dict(widths=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
    "large": dict(widths=(192, 384, 768, 1536), depths=(2, 2, 18, 2), heads=(6, 12, 24, 48)),
    "huge": dict(widths=(352, 704, 1408, 2816), depths=(2, 2, 18, 2), heads=(11, 22, 44, 88)),
}
_TWINS = {
    "small": dict(widths=(64, 128, 256, 512), depths=(2, 2, 10, 4), heads=(2, 4, 8, 16)),
    "base": dict(widths=(96, 192, 384, 768), depths=(2, 2, 18, 2), heads=(3, 6, 12, 24)),
    "large": dict(widths=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)),
}
_PVT = {"tiny": (2, 2, 2, 2), "small": (3, 4, 6, 3), "medium": (3, 4, 18, 3), "large": (3, 8, 27, 3)}
_VIT = {
    "small": dict(width=384, depth=12, heads=6),
    "base": dict(width=768, depth=12, heads=12),
    "large": dict(width=1024, depth=24, heads=16),
}

VARIANTS: dict[str, dict] = {
    # The released MixMAE kind: no shifted windows, windows that follow the grid, sin-cos positions.
    **{f"swin_{size}_w14": dict(family="swin", **shape) for size, shape in _SWIN.items()},
    # Stock Swin: shifted 7 x 7 windows, no absolute positions.
    **{
        f"swin_{size}_w7": dict(family="swin", windows=(7, 7, 7, 7), shift=True, positions="none", **shape)
        for size, shape in _SWIN.items()
        if size != "huge"
    },
    "swin_nano": dict(family="swin", depths=(1, 1, 3), **_NANO),
    **{f"twins_svt_{size}": dict(family="twins_svt", **shape) for size, shape in _TWINS.items()},
    "twins_svt_nano": dict(family="twins_svt", depths=(2, 2, 2), windows=(4, 4, 4), **_NANO),
    **{
        f"pvt_{size}": dict(
            family="pvt", widths=(64, 128, 320, 512), depths=depths, heads=(1, 2, 5, 8), mlp_ratios=(8, 8, 4, 4)
        )
        for size, depths in _PVT.items()
    },
    "pvt_nano": dict(family="pvt", depths=(1, 1, 3), mlp_ratios=(4, 4, 4), **_NANO),
    **{f"vit_{size}_p16": dict(family="vit", **shape) for size, shape in _VIT.items()},
    "vit_nano": dict(family="vit", patch_size=8, width=128, depth=4, heads=4),
}
