"""Published checkpoints rewritten for the networks here: the right ones exactly, all others refused in one line."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from openai_layout import ADM_256, CIFAR10_50M, filled, hollow, openai_layout
from places import GOLDEN_FILES
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from bench.cli import main
from bench.types.errors import WeightsError
from methods.diffusion.conversion import as_unet_state, convert_guided, recognise_source
from methods.diffusion.unets import build_unet
from methods.diffusion.vit_conversion import convert_hf_vit, hf_vit
from methods.training.rng import seeded_globals

FULL = next(r for r in json.loads((GOLDEN_FILES / "diffusion.json").read_text())["networks"] if "50M" in r["name"])
SISTERS = {
    "learned sigma is off": openai_layout(
        width=32, mult=(1, 1, 2, 2, 4, 4), layers=2, attention=(8, 16, 32), updown=True, out=3
    ),
    "a first convolution of shape (256, 3)": openai_layout(
        width=32, mult=(1, 1, 2, 2, 4, 4), layers=2, attention=(), updown=True
    ),
    "give --from improved-diffusion": openai_layout(
        width=32, mult=(1, 2, 2, 2), layers=3, attention=(2, 4), updown=False
    ),
    "these tensors have other names": {"fc.weight": (10, 4)},
}
LARGE_SISTERS = {
    "a network for another image size": openai_layout(
        width=256, mult=(1, 2, 3, 4), layers=3, attention=(2, 4, 8), updown=True
    ),
    "conditioned on classes": {**ADM_256, "label_emb.weight": (1000, 1024)},
    r"'mid_block\.attentions\.0\.group_norm\.bias' should be \(1024,\), got none": {
        name: shape for name, shape in ADM_256.items() if name != "middle_block.1.norm.bias"
    },
    r"'input_blocks\.1\.x\.weight'": {**ADM_256, "input_blocks.1.x.weight": (1,)},
    "got two for some": {**ADM_256, "input_blocks.1.1.in_layers.0.weight": (256,)},
    "attention heads of 64 channels, got 96": {**ADM_256, "middle_block.1.qkv.weight": (288, 1024, 1)},
}


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`rrcm-bench weights convert` in an empty folder -> exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rrcm-bench", "weights", "convert", *words])
        with pytest.raises(SystemExit) as left:
            main()
        found = capsys.readouterr()
        return left.value.code if isinstance(left.value.code, int) else 0, found.out, found.err

    return call


def toy(folder: Path) -> str:
    """A converter of a stranger's: a -> b, and nothing else."""
    (folder / "stranger.py").write_text(
        "from bench.types.errors import WeightsError\n\n\n"
        "def rename(state):\n"
        "    if set(state) != {'a'}:\n"
        "        raise WeightsError('expected a tensor a; give its file')\n"
        "    return {'b': state['a'].T}, {'arch': 'toy'}\n"
    )
    return f"{folder / 'stranger.py'}:rename"


@seeded_globals(1)
def test_the_published_checkpoint_becomes_the_network_that_was_published(convert: Any, tmp_path: Path) -> None:
    torch.save(filled(CIFAR10_50M), tmp_path / "in.pt")
    code, out, err = convert("--from", "improved-diffusion", "in.pt", "out.safetensors", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["parameters"], said["tensors"]) == (52_546_438, 506)
    assert said["sha256"] == hashlib.sha256((tmp_path / "out.safetensors").read_bytes()).hexdigest()
    source = hashlib.sha256((tmp_path / "in.pt").read_bytes()).hexdigest()
    with safe_open(tmp_path / "out.safetensors", "pt") as opened:
        assert opened.metadata() == {
            "arch": "improved_cifar10",
            "converter": "improved-diffusion",
            "source_sha256": source,
        }
    unet = build_unet("improved_cifar10", shape=(3, 32, 32)).eval()
    unet.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    x = torch.sin(0.013 * torch.arange(3072, dtype=torch.float64)).float().reshape(1, 3, 32, 32)
    with torch.no_grad():
        y = unet(x, FULL["args"][0][0] / 0.25).double()
    expected = torch.tensor(FULL["output_at_index"], dtype=torch.float64)
    assert y.norm().item() == pytest.approx(FULL["output_l2"], rel=1e-4)
    assert (y.flatten()[FULL["output_index"]] - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("part-")] == []


def test_the_large_checkpoint_has_a_place_for_each_tensor() -> None:
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in ADM_256.items()}
        unet = build_unet("adm_256", shape=(3, 224, 224))
    tensors = as_unet_state(state, "adm_256")
    assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in unet.state_dict().items()}


@seeded_globals(1)
def test_a_converted_state_is_left_as_it_is() -> None:
    state = build_unet("digits_unet", shape=(1, 8, 8)).state_dict()
    assert as_unet_state(state, "digits_unet") == dict(state)
    with pytest.raises(WeightsError, match="'digits_unet' has"):
        as_unet_state(hollow(CIFAR10_50M), "digits_unet")


def test_whose_checkpoint_it_is_shows_in_its_names() -> None:
    assert recognise_source(ADM_256) == "guided-diffusion"
    assert recognise_source(CIFAR10_50M) == "improved-diffusion"
    assert recognise_source({"vit.embeddings.cls_token": (1, 1, 768)}) == "hf-vit"
    assert recognise_source({"conv_in.weight": (64, 3, 3, 3)}) is None


@pytest.mark.parametrize("words", SISTERS)
def test_another_network_is_refused_in_one_line_and_nothing_written(convert: Any, tmp_path: Path, words: str) -> None:
    torch.save(hollow(SISTERS[words]), tmp_path / "in.pt")
    code, out, err = convert("--from", "guided-diffusion", "in.pt", "out.safetensors")
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.pt"]


@pytest.mark.parametrize("words", LARGE_SISTERS)
def test_what_the_large_network_is_not_is_told_by_name(words: str) -> None:
    state = {name: torch.empty(shape, device="meta") for name, shape in LARGE_SISTERS[words].items()}
    with pytest.raises(WeightsError, match=words):
        convert_guided(state, "adm_256")


def test_a_missing_block_of_the_small_network_is_named() -> None:
    state = {
        name: tensor for name, tensor in hollow(CIFAR10_50M).items() if name != "output_blocks.15.0.out_layers.3.bias"
    }
    with pytest.raises(WeightsError, match=r"'up_blocks\.3\.resnets\.3\.conv2\.bias' should be \(128,\), got none"):
        convert_guided(state, "improved_cifar10")


def test_a_damaged_file_or_one_with_code_is_refused(convert: Any, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(64, 64)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:9000])
    torch.save({"a": torch.ones(2), "b": Path}, tmp_path / "code.pt")
    torch.save({"a": torch.tensor([math.nan])}, tmp_path / "nan.pt")
    name = toy(tmp_path)
    for file, words in (("cut.pt", "cut short"), ("code.pt", "holds code"), ("nan.pt", "NaN"), ("none.pt", "nothing")):
        code, _, err = convert("--from", name, file, "out.safetensors")
        assert code == 1
        assert words in err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_is_there_is_kept_unless_forced(convert: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a": torch.arange(6.0).reshape(2, 3)}}, tmp_path / "in.pth")
    name = toy(tmp_path)
    (tmp_path / "out.safetensors").write_text("mine")
    code, _, err = convert("--from", name, "in.pth", "out.safetensors")
    assert code == 1
    assert "is there already; give another name, or --force" in err
    assert (tmp_path / "out.safetensors").read_text() == "mine"
    code, out, _ = convert("--from", name, "in.pth", "out.safetensors", "--force")
    assert code == 0
    assert "6 parameters" in out
    assert load_file(tmp_path / "out.safetensors")["b"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_the_same_checkpoint_gives_the_same_bytes(convert: Any, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "in.pt")
    hashes = set()
    for i in range(8):  # safetensors orders its metadata anew each time: 3 keys, 6 orders
        assert convert("--from", toy(tmp_path), "in.pt", f"{i}.safetensors")[0] == 0
        hashes.add(hashlib.sha256((tmp_path / f"{i}.safetensors").read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_a_safetensors_file_is_converted_but_never_onto_itself(convert: Any, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, 3)}, tmp_path / "in.safetensors")
    code, _, err = convert("--from", toy(tmp_path), "in.safetensors", "./in.safetensors", "--force")
    assert code == 1
    assert "is the checkpoint to be converted" in err
    assert convert("--from", toy(tmp_path), "in.safetensors", "b.safetensors")[0] == 0
    code, _, err = convert("--from", toy(tmp_path), "b.safetensors", "c.safetensors")
    assert code == 1
    assert "weights 'b.safetensors': expected a tensor a; give its file" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "guided-difusion", "in.pt", "out.safetensors"), "Did you mean 'guided-diffusion'?"),
        (("--from", "STRANGER", "in.pt", "out.pt"), "ends in .safetensors"),
        (("--from", "STRANGER", "in.pt", "nowhere/out.safetensors"), "a folder that exists"),
        (("--from", "NO_FUNCTION", "in.pt", "out.safetensors"), "must be a function"),
    ],
)
def test_a_wrong_word_is_told(convert: Any, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "in.pt")
    name = toy(tmp_path)
    with (tmp_path / "stranger.py").open("a") as file:
        file.write("\n\nNOTHING = 1\n")
    known = {"STRANGER": name, "NO_FUNCTION": name.replace("rename", "NOTHING")}
    code, _, err = convert(*(known.get(word, word) for word in words))
    assert code == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1


# ---- Hugging Face's ViT ----------------------------------------------------------------------------------------------

DEPTH, WIDTH, HEADS = 2, 16, 4


def vit_shapes(depth: int, width: int, patch: int, tokens: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Names of transformers 4."""
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, tokens + 1, width),
        "vit.embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        "vit.embeddings.patch_embeddings.projection.bias": (width,),
        "vit.layernorm.weight": (width,),
        "vit.layernorm.bias": (width,),
        "classifier.weight": (classes, width),
        "classifier.bias": (classes,),
    }
    for i in range(depth):
        block = f"vit.encoder.layer.{i}"
        for part, rows, columns in (
            *((f"attention.attention.{word}", width, width) for word in ("query", "key", "value")),
            ("attention.output.dense", width, width),
            ("intermediate.dense", 4 * width, width),
            ("output.dense", width, 4 * width),
        ):
            shapes |= {f"{block}.{part}.weight": (rows, columns), f"{block}.{part}.bias": (rows,)}
        for norm in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
    return shapes


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under the names of transformers 5."""
    words = {
        "vit.encoder.layer.": "vit.layers.",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    found = {}
    for name, tensor in state.items():
        for old, new in words.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


def slow_vit(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits by the definition, head by head (Dosovitskiy et al. 2021, equations 1 to 4)."""

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, value: Tensor) -> Tensor:
        return F.layer_norm(value, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-12)

    root = "vit.embeddings"
    tokens = F.conv2d(x, state[f"{root}.patch_embeddings.projection.weight"], stride=16).flatten(2).mT
    tokens = tokens + state[f"{root}.patch_embeddings.projection.bias"]
    z = torch.cat([state[f"{root}.cls_token"].expand(len(x), 1, WIDTH), tokens], 1)
    z = z + state[f"{root}.position_embeddings"]
    for i in range(DEPTH):
        block, heads = f"vit.encoder.layer.{i}", []
        before = norm(f"{block}.layernorm_before", z)
        q, k, v = (linear(f"{block}.attention.attention.{word}", before) for word in ("query", "key", "value"))
        for h in range(HEADS):
            part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
            scores = q[..., part] @ k[..., part].mT / math.sqrt(WIDTH // HEADS)
            heads.append(scores.softmax(-1) @ v[..., part])
        z = z + linear(f"{block}.attention.output.dense", torch.cat(heads, -1))
        after = norm(f"{block}.layernorm_after", z)
        z = z + linear(f"{block}.output.dense", F.gelu(linear(f"{block}.intermediate.dense", after)))
    return linear("classifier", norm("vit.layernorm", z)[:, 0])


@seeded_globals(1)
def test_a_converted_vit_gives_the_logits_of_its_definition() -> None:
    from functools import partial

    from timm.models.vision_transformer import VisionTransformer

    state = filled(vit_shapes(DEPTH, WIDTH, 16, 4, 5))
    vit = VisionTransformer(
        img_size=32, patch_size=16, num_classes=5, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-12),
    ).eval()  # fmt: skip
    vit.load_state_dict(convert_hf_vit(state))
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert vit(x) == pytest.approx(slow_vit(state, x), abs=1e-5)


def test_both_generations_of_names_give_the_same_tensors() -> None:
    state = filled(vit_shapes(DEPTH, WIDTH, 16, 4, 5))
    newer = renamed(state)
    assert not newer.keys() & {name for name in state if ".layer." in name}
    old, new = convert_hf_vit(state), convert_hf_vit(newer)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_a_vit_of_another_size_is_refused() -> None:
    whole = vit_shapes(12, 768, 16, 196, 10)
    tensors, said = hf_vit(hollow(whole))
    assert (len(tensors), said) == (152, {"arch": "vit_base_patch16_224_hf"})
    with pytest.raises(WeightsError, match="ViT-B/16 classifier for 224 pixels"):
        hf_vit(hollow(vit_shapes(12, 768, 16, 576, 10)))  # 384 pixels
    with pytest.raises(WeightsError, match=r"'blocks\.12\."):
        hf_vit(hollow(vit_shapes(13, 768, 16, 196, 10)))
    with pytest.raises(WeightsError, match="without its last layer"):
        hf_vit(hollow({name: shape for name, shape in whole.items() if not name.startswith("classifier")}))
    with pytest.raises(WeightsError, match="expected query, key and value"):
        hf_vit(hollow({name: shape for name, shape in whole.items() if "layer.3.attention.attention.key" not in name}))
    with pytest.raises(WeightsError, match=r"got a tensor 'vit\.encoder\.layer\.0\.gate\.weight'"):
        hf_vit(hollow({**whole, "vit.encoder.layer.0.gate.weight": (1,)}))
