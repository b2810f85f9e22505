"""Claims on the time-token ViT that need no published numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from methods.nets.blocks import Block, Patches
from methods.nets.sizes import SIZES
from methods.nets.vit import AtNoiseLevel, TimeTokenClassifier, TimeTokenViT, time_embedding, time_token_vit
from methods.training.rng import seeded_globals


@pytest.fixture
def vit() -> TimeTokenViT:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = time_token_vit("tiny", image_size=8, in_channels=1)
        for p in net.parameters():  # a fresh network hardly looks at its input
            p.data.add_(0.05 * torch.randn_like(p))
    return net.eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def through_whole_blocks(vit: TimeTokenViT, x: Tensor, t: float) -> Tensor:
    patches = vit.patch_embed(x / (t * t + 0.25) ** 0.5)
    time = time_embedding(250 * torch.tensor([t]).double().log(), vit.embed_dim).expand(len(x), 1, -1)
    tokens = torch.cat((vit.cls_token.expand(len(x), 1, -1), time, patches), dim=1) + vit.pos_embed
    for block in vit.blocks:
        tokens = block(tokens)
    return vit.norm(tokens)[:, 0]


def test_skipping_the_last_blocks_unread_tokens_changes_nothing(vit: TimeTokenViT, x: Tensor) -> None:
    with torch.no_grad():
        whole = through_whole_blocks(vit, x, 0.5)
        assert vit.features(x, 0.5, final_norm=True) == pytest.approx(whole, abs=2e-6)


def test_the_gradient_is_that_of_whole_blocks(vit: TimeTokenViT, x: Tensor) -> None:
    weight = vit.blocks[-1].attn.qkv.weight
    (fast,) = torch.autograd.grad(vit.features(x, 0.5, final_norm=True).pow(3).sum(), weight)
    (slow,) = torch.autograd.grad(through_whole_blocks(vit, x, 0.5).pow(3).sum(), weight)
    assert slow.abs().max() > 1e-3
    assert (fast - slow).abs().max() <= 1e-5 * slow.abs().max()


def test_a_copys_features_do_not_depend_on_its_batch(vit: TimeTokenViT, x: Tensor) -> None:
    with torch.no_grad():
        alone = torch.cat([vit.features(one[None], 1.0, final_norm=True) for one in x])
        assert vit.features(x, 1.0, final_norm=True) == pytest.approx(alone, abs=1e-5)


def test_one_time_for_all_equals_that_time_for_each(vit: TimeTokenViT, x: Tensor) -> None:
    with torch.no_grad():
        each = vit.features(x, torch.full((5,), 0.75), final_norm=False)
        assert torch.equal(vit.features(x, 0.75, final_norm=False), each)


def test_the_noise_level_reaches_the_class_token(vit: TimeTokenViT, x: Tensor) -> None:
    with torch.no_grad():
        difference = vit.features(x, 0.5, final_norm=True) - vit.features(x, 0.6, final_norm=True)
    assert difference.abs().max() > 1e-2


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_norms_and_residual_stream_stay_float32_under_autocast(
    vit: TimeTokenViT, x: Tensor, precision: torch.dtype
) -> None:
    seen: set[torch.dtype] = set()
    for module in vit.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda _, args, out: seen.update({args[0].dtype, out.dtype}))
    for block in vit.blocks[:-1]:
        block.register_forward_hook(lambda _, args, out: seen.update({args[0].dtype, out.dtype}))
    with torch.no_grad():
        exact = vit.features(x, 0.5, final_norm=True)
        with torch.autocast("cpu", precision):
            rounded = vit.features(x, 0.5, final_norm=True)
    assert seen == {torch.float32}
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)  # autocast was on at all
    assert rounded == pytest.approx(exact, abs=0.1)


@seeded_globals(1)
def test_logits_are_never_rounded_to_half(vit: TimeTokenViT, x: Tensor) -> None:
    classifier = TimeTokenClassifier(vit, num_classes=10, final_norm=True).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = classifier(x, 0.5)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("final_norm", [True, False])
@seeded_globals(1)
def test_the_logits_are_the_head_of_the_class_token(vit: TimeTokenViT, x: Tensor, *, final_norm: bool) -> None:
    classifier = TimeTokenClassifier(vit, num_classes=10, final_norm=final_norm).eval()
    with torch.no_grad():
        expected = vit.features(x, 0.5, final_norm=final_norm) @ classifier.linear_head.weight.T
        assert classifier(x, 0.5) == pytest.approx(expected, abs=1e-8)
        assert expected.abs().max() > 1e-5


@seeded_globals(1)
def test_the_head_starts_almost_uniform(vit: TimeTokenViT, x: Tensor) -> None:
    head = TimeTokenClassifier(vit, num_classes=1000, final_norm=True).linear_head
    assert head.weight.std().item() == pytest.approx(2e-5, rel=0.05)
    assert not head.bias.any()


@seeded_globals(1)
def test_the_classifier_of_pixels_sees_twice_the_noise(vit: TimeTokenViT, x: Tensor) -> None:
    classifier = TimeTokenClassifier(vit, num_classes=10, final_norm=False).eval()
    pixels = (x + 1) / 2
    with torch.no_grad():
        assert AtNoiseLevel(classifier, 0.5)(pixels) == pytest.approx(classifier(x, 0.5), abs=1e-7)


@seeded_globals(1)
def test_the_tiny_size_is_small() -> None:
    vit = time_token_vit("tiny", image_size=8, in_channels=1)
    assert sum(p.numel() for p in vit.parameters()) < 300_000


@seeded_globals(1)
def test_moco_initialisation_bounds_each_of_q_k_and_v_by_its_own_fan() -> None:
    row = SIZES["tiny"]
    vit = TimeTokenViT(
        image_size=8, patch_size=2, in_channels=1, embed_dim=64, depth=1, num_heads=4, hidden_dim=128, output_dim=64,
        moco_init=True,
    )  # fmt: skip
    limit = (6 / (row.embed_dim + row.embed_dim)) ** 0.5
    top = vit.blocks[0].attn.qkv.weight.abs().max().item()
    assert 0.99 * limit < top <= limit  # 12 288 uniform draws: all below 0.99 with probability 1e-53
    patch_limit = (6 / (1 * 2 * 2 + 64)) ** 0.5
    assert 0.9 * patch_limit < vit.patch_embed.proj.weight.abs().max().item() <= patch_limit
    assert not vit.blocks[0].mlp.fc1.bias.any()


@seeded_globals(1)
def test_a_network_without_projector_says_so(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"projector=False; call features"):
        time_token_vit("tiny", image_size=8, in_channels=1, projector=False)(x, 0.5)


def test_patches_must_tile_the_image() -> None:
    with pytest.raises(ValueError, match="must tile the image, got side 30"):
        TimeTokenViT(
            image_size=30, patch_size=4, in_channels=3, embed_dim=64, depth=1, num_heads=4, hidden_dim=8, output_dim=8
        )


def test_a_block_and_its_patches_are_timms_to_the_last_bit() -> None:
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import Block as TimmBlock

    def made(block, patches) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(4)
            return nn.Sequential(patches(8, 2, 3, 24), block(24, 3, 4.0))

    ours = made(Block, Patches)
    timms = made(lambda dim, heads, ratio: TimmBlock(dim, heads, ratio, norm_layer=nn.LayerNorm), PatchEmbed)
    own = ours.state_dict()
    assert list(own) == list(timms.state_dict())
    assert all(torch.equal(own[name], tensor) for name, tensor in timms.state_dict().items())
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    results = []
    for net in (ours, timms):
        y = net(x)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in net.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    with pytest.raises(ValueError, match="side 8"):
        ours(torch.zeros(1, 3, 8, 6))


@seeded_globals(0)
def test_patches_as_a_product_are_those_of_the_convolution() -> None:
    patches = Patches(12, 4, 3, 8)
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        assert patches.as_product(x) == pytest.approx(patches(x), abs=1e-6)
