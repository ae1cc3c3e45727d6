"""The names of MAE's and GreenMIM's parameters."""

from mixmae.encoders.keys import KeyMap
from mixmae.encoders.swin.official import RECOMPUTED

_DECODER = ((r"mask_token", "decoder.mask_token"), (r"decoder_((embed|blocks|norm|pred)\..*)", r"decoder.\1"))


OFFICIAL_VIT_KEYS = KeyMap(
    renames=(*_DECODER, (r"((patch_embed|blocks|norm)\..*|cls_token|pos_embed)", r"encoder.\1")),
    recomputed=(r"decoder_pos_embed",),
)
"""models_mae.MaskedAutoencoderViT."""


OFFICIAL_VIT_CLASSIFIER_KEYS = KeyMap(
    renames=(
        (r"((patch_embed|blocks)\..*|cls_token|pos_embed)", r"encoder.\1"),
        (r"fc_norm\.(weight|bias)", r"encoder.norm.\1"),
        (r"(head\..*)", r"\1"),
    ),
    refused=((r"norm\..*", "a classifier on the class token; this suite classifies the mean over patches (fc_norm)"),),
)
"""models_vit.VisionTransformer with global_pool."""


OFFICIAL_SWIN_KEYS = KeyMap(
    renames=(*_DECODER, (r"(encoder\.(patch_embed|layers|norm)\..*)", r"\1")),
    recomputed=(*RECOMPUTED, r"decoder_pos_embed"),
)
"""GreenMIM's MaskedAutoencoder(SwinTransformer)."""
