"""Short names of the networks that people ask for most, each for a model of timm with its weights; light to import."""

from __future__ import annotations

from typing import NamedTuple


class Model(NamedTuple):
    """A model of timm with the tag of its weights, and the license that their authors published these under."""

    name: str
    license: str


SHORT_NAMES = {
    "dinov2-small": Model("vit_small_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov2-base": Model("vit_base_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov2-large": Model("vit_large_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov3-small": Model("vit_small_patch16_dinov3.lvd1689m", "DINOv3 License"),
    "dinov3-base": Model("vit_base_patch16_dinov3.lvd1689m", "DINOv3 License"),
    "dinov3-large": Model("vit_large_patch16_dinov3.lvd1689m", "DINOv3 License"),
    "dinov3-convnext-tiny": Model("convnext_tiny.dinov3_lvd1689m", "DINOv3 License"),
    # OpenAI's were trained with another activation than timm's ViTs have: only these models of timm compute it
    "clip-vit-b32": Model("vit_base_patch32_clip_quickgelu_224.openai", "MIT"),
    "clip-vit-b16": Model("vit_base_patch16_clip_quickgelu_224.openai", "MIT"),
    "clip-vit-l14": Model("vit_large_patch14_clip_quickgelu_224.openai", "MIT"),
    "openclip-vit-b32": Model("vit_base_patch32_clip_224.laion2b", "MIT"),
    "siglip-b16": Model("vit_base_patch16_siglip_224.webli", "Apache-2.0"),
    "siglip2-b16": Model("vit_base_patch16_siglip_224.v2_webli", "Apache-2.0"),
    "convnextv2-tiny": Model("convnextv2_tiny.fcmae_ft_in22k_in1k", "CC-BY-NC-4.0"),
    "eva02-small": Model("eva02_small_patch14_336.mim_in22k_ft_in1k", "MIT"),
    "mobilenetv4-small": Model("mobilenetv4_conv_small.e2400_r224_in1k", "Apache-2.0"),
}

LICENSES = dict(SHORT_NAMES.values())
"""By timm's name with the tag; for CLIP's, timm names its own license."""


def full_name(name: str) -> str:
    """What a short name stands for; other names as they are.

    >>> full_name("siglip-b16"), full_name("resnet18")
    ('timm:vit_base_patch16_siglip_224.webli', 'resnet18')
    """
    return f"timm:{SHORT_NAMES[name].name}" if name in SHORT_NAMES else name
