"""The official classes' constructor arguments, as their code names them, and what they mean in our configs (no torch).

One model a class: its fields and defaults are those of the official constructor; values that would make a model we do
not have are refused. Three settings that official code keeps elsewhere may stand beside them: `layer_norm_eps`,
`mask_ratio` and `mask_patch_size`. `from_shapes` reads from the tensors' shapes what they decide.
"""

from mixmae.weights.constructors import pyramid, swin, vit
from mixmae.weights.constructors.arguments import Arguments

ARGUMENTS: dict[str, type[Arguments]] = {
    "mixmae_pretrain": swin.MixmimArguments,
    "mixmae_classifier": swin.MixmimClassifierArguments,
    "simmim_swin_pretrain": swin.SimmimSwinArguments,
    "simmim_swin_classifier": swin.SwinClassifierArguments,
    "simmim_vit_pretrain": vit.SimmimVitArguments,
    "simmim_vit_classifier": vit.SimmimVitClassifierArguments,
    "mae_vit_pretrain": vit.MaeVitArguments,
    "mae_vit_classifier": vit.MaeVitClassifierArguments,
    "mae_swin_pretrain": swin.GreenmimArguments,
    "pvt_classifier": pyramid.PvtArguments,
    "twins_svt_classifier": pyramid.TwinsArguments,
    "timm_swin_classifier": swin.SwinClassifierArguments,
    "timm_twins_svt_classifier": pyramid.TwinsArguments,
}
"""Kinds of official weights."""
