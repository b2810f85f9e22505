"""The networks that timm, torchvision and diffusers do not have, and how one is filled and asked."""
