"""The networks that timm, torchvision and diffusers do not have, and loading and inference of any."""
