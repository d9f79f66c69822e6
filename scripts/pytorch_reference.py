"""R1Seg-3D in PyTorch, stage by stage, for scripts/compare-pytorch: not a part of r1seg.

The vision transformer is MONAI's, the language model transformers' Phi-3 with SDPA, the rest is
written here after the published names and shapes of the weights. A checkpoint folder with float
weights is read straight into place, which is faster than `from_pretrained`.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import ViT
from torch import nn
from transformers import DynamicCache, Phi3Config, Phi3ForCausalLM

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
# The reference multiplies in 8 heads, in half the width between tokens and image.
HEADS, MLP, MASK_TOKENS, IOU_HIDDEN = 8, 2048, 4, 256


class Attention(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q, k, v):
        q, k, v = (
            layer(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width, is_first):
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(width, width)
        self.cross_attn_token_to_image = Attention(width, width // 2)
        self.cross_attn_image_to_token = Attention(width, width // 2)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(width, MLP), "lin2": nn.Linear(MLP, width)})
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))

    def forward(self, tokens, image, token_pe, image_pe):
        if self.is_first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        found = self.cross_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        tokens = self.norm2(tokens + found)
        tokens = self.norm3(tokens + self.mlp["lin2"](F.relu(self.mlp["lin1"](tokens))))
        found = self.cross_attn_image_to_token(image + image_pe, tokens + token_pe, tokens)
        return tokens, self.norm4(image + found)


class Transformer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, i == 0) for i in range(2))
        self.final_attn_token_to_image = Attention(width, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, tokens, image, image_pe):
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        found = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + found), image


class Mlp(nn.Module):
    def __init__(self, *widths):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class ChannelNorm(nn.LayerNorm):
    """Over the channels of each voxel."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-6)

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class PromptEncoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pe_layer = nn.Module()
        matrix = torch.empty(3, width // 2)
        self.pe_layer.register_buffer("positional_encoding_gaussian_matrix", matrix)
        self.no_mask_embed = nn.Embedding(1, width)
        self.mask3D_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, 2, 2), ChannelNorm(4), nn.GELU(),
            nn.Conv3d(4, 16, 2, 2), ChannelNorm(16), nn.GELU(),
            nn.Conv3d(16, width, 1),
        )  # fmt: skip

    def dense_pe(self, grid):
        """`[1, N, E]`; channels take the axes in the order H, D, W."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        d, h, w = ((torch.arange(n, device=matrix.device) + 0.5) / n * 2 - 1 for n in grid)
        d, h, w = torch.meshgrid(d, h, w, indexing="ij")
        angles = 2 * torch.pi * (torch.stack((h, d, w), -1) @ matrix.float())
        return torch.cat((angles.sin(), angles.cos()), -1).flatten(0, 2)[None].to(matrix.dtype)


class MaskDecoder(nn.Module):
    def __init__(self, width, grid):
        super().__init__()
        self.grid = grid
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(MASK_TOKENS, width)
        self.transformer = Transformer(width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, 2, 2),
            nn.LayerNorm([width // 4] + [2 * n for n in grid]), nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, 2, 2), nn.GELU(),
        )  # fmt: skip
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(width, width, width, width // 8) for _ in range(MASK_TOKENS)
        )
        self.iou_prediction_head = Mlp(width, IOU_HIDDEN, IOU_HIDDEN, MASK_TOKENS)
        self.txt_align_upscaled_embedding = nn.Linear(width, width // 8)

    def forward(self, image, image_pe, prompt):
        """`[1, N, E]`, its positions, and the prompt `[1, E]` to logits `[1, 1, d, h, w]`."""
        tokens = torch.cat((self.iou_token.weight, self.mask_tokens.weight, prompt))[None]
        tokens, image = self.transformer(tokens, image, image_pe)
        self.iou_prediction_head(tokens[:, 0])
        up = self.output_upscaling(image.transpose(1, 2).unflatten(2, self.grid))
        weights = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.stack(weights, 1) @ up.flatten(2)
        masks = masks + self.txt_align_upscaled_embedding(prompt)[:, None] @ up.flatten(2)
        return masks[:, :1].unflatten(2, up.shape[2:])


class Reference(nn.Module):
    def __init__(self, config, dtype):
        super().__init__()
        self.image_size = config["img_size"]
        self.grid = [n // p for n, p in zip(self.image_size, config["patch_size"])]
        self.num_clicks = config["num_clicks"]
        self.pooling = config["proj_pooling_size"]
        embed, hidden = config["mm_hidden_size"], config["hidden_size"]
        names = Phi3Config().to_dict()
        phi3 = Phi3Config(**{k: v for k, v in config.items() if k in names and k != "model_type"})
        phi3._attn_implementation = "sdpa"
        with torch.device("meta"):
            self.vision = ViT(
                1, self.image_size, config["patch_size"], embed, config.get("mlp_dim", 3072),
                config.get("num_layers", 12), config.get("num_heads", 12),
                proj_type="perceptron", classification=False,
            )  # fmt: skip
            self.mm_projector = nn.Sequential(
                nn.Linear(embed, hidden), nn.GELU(), nn.Linear(hidden, hidden)
            )
            self.seg_projector = nn.Sequential(
                nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, embed)
            )
            self.prompt_encoder = PromptEncoder(embed)
            self.mask_decoder = MaskDecoder(embed, self.grid)
            self.llm = Phi3ForCausalLM(phi3)
        self.to(dtype).to_empty(device="cpu").eval()
        for layer in self.llm.model.layers:
            rotary = layer.self_attn.rotary_emb
            steps = torch.arange(0, rotary.dim, 2).float() / rotary.dim
            rotary.inv_freq = 1 / rotary.base**steps

    def by_published_name(self):
        prefixes = {
            "vision.": "model.vision_module.image_encoder.",
            "prompt_encoder.": "model.vision_module.prompt_encoder.",
            "mask_decoder.": "model.vision_module.mask_decoder.",
            "mm_projector.": "model.mm_projector.projector.",
            "seg_projector.": "model.seg_projector.",
            "llm.": "",
        }
        for name, tensor in self.state_dict().items():
            prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
            yield prefixes[prefix] + name.removeprefix(prefix), tensor

    def read(self, folder):
        wanted = dict(self.by_published_name())
        for path in sorted(Path(folder).glob("*.safetensors")):
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
                header.pop("__metadata__", None)
                for name, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                    target = wanted.pop(name, None)
                    if target is None:
                        continue
                    assert info["shape"] == list(target.shape), (name, info, target.shape)
                    stored = STORED[info["dtype"]]
                    same = stored == target.dtype
                    place = target if same else torch.empty(target.shape, dtype=stored)
                    file.seek(8 + length + info["data_offsets"][0])
                    file.readinto(place.view(-1).view(torch.uint8).numpy())
                    if not same:
                        target.copy_(place)
        assert not wanted, f"{folder} lacks {sorted(wanted)[:5]}: its weights must be floats"

    def project(self, features):
        maps = features.transpose(1, 2).unflatten(2, self.grid)
        # avg_pool3d knows no bf16 on a CPU; the authors' code was given the same detour.
        maps = F.avg_pool3d(maps.float(), self.pooling).to(maps.dtype)
        return self.mm_projector(maps.flatten(2).transpose(1, 2))

    def next_token(self, embeddings, cache):
        """The token that follows, and the state that predicts it."""
        out = self.llm.model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
        state = out.last_hidden_state[:, -1]
        return self.llm.lm_head(state).float().argmax(-1), state

    def segment(self, features, state):
        """A first pass, and `num_clicks` more, each prompted with the mask of the one before."""
        prompt, encoder = self.seg_projector(state), self.prompt_encoder
        low = None
        for _ in range(1 + self.num_clicks):
            if low is None:
                dense = encoder.no_mask_embed.weight[None]
            else:
                dense = encoder.mask3D_downscaling(low).flatten(2).transpose(1, 2)
            low = self.mask_decoder(features + dense, encoder.dense_pe(self.grid), prompt)
        return F.interpolate(low, self.image_size, mode="trilinear", align_corners=False)


def answer(model, volume_path, ids, tokens, device):
    """One question about one volume: seconds of each stage, the mask last."""
    stages = {}
    start = time.perf_counter()

    def stage(name, since):
        if device != "cpu":
            torch.cuda.synchronize()
        now = time.perf_counter()
        stages[name] = now - since
        return now

    dtype = model.llm.dtype
    volume = torch.from_numpy(np.load(volume_path)).to(device, dtype).view(1, 1, *model.image_size)
    now = stage("read_s", start)
    features = model.vision(volume)[0]
    now = stage("vit_s", now)
    visual = model.project(features)
    now = stage("projector_s", now)
    embed = model.llm.model.embed_tokens
    words = embed(ids)
    prompt = torch.cat((words[:, :1], visual, words[:, 1 + visual.shape[1] :]), 1)
    cache, states = DynamicCache(), []
    token, state = model.next_token(prompt, cache)
    token.item()
    states.append(state)
    now = stage("prefill_s", now)
    for _ in range(tokens - 1):
        token, state = model.next_token(embed(torch.zeros_like(ids[:, :1])), cache)
        token.item()
        states.append(state)
    now = stage("decode_s", now)
    logits = model.segment(features, states[-2])
    now = stage("mask_s", now)
    (logits >= 0).to(torch.uint8).cpu().numpy()
    now = stage("postprocess_s", now)
    stages["first_answer_s"] = now - start
    # Nothing of the first question serves the second.
    stages["second_prefill_s"] = stages["vit_s"] + stages["projector_s"] + stages["prefill_s"]
    stages["decode_per_token_s"] = stages.pop("decode_s") / (tokens - 1)
    return stages


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--volume", required=True)
    parser.add_argument("--dtype", choices=DTYPES, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-tokens", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    start = time.perf_counter()
    config = json.loads((Path(args.folder) / "config.json").read_text())
    model = Reference(config, DTYPES[args.dtype])
    model.read(args.folder)
    model.to(args.device)
    load = time.perf_counter() - start
    if args.compile:
        for module in (model.vision, model.llm.model, model.mask_decoder):
            module.compile(dynamic=True)
    torch.manual_seed(0)
    ids = torch.randint(3, config["vocab_size"] - 8, (1, args.prompt_tokens), device=args.device)
    if args.device != "cpu" or args.compile:
        # Kernels are loaded, or compiled, at their first use.
        answer(model, args.volume, ids, args.tokens, args.device)
    runs = [answer(model, args.volume, ids, args.tokens, args.device) for _ in range(args.runs)]
    stages = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    language = model.llm.state_dict().items()
    per_token = sum(t.nbytes for name, t in language if name != "model.embed_tokens.weight")
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    result = {
        "dtype": args.dtype + (" compiled" if args.compile else ""),
        "device": args.device,
        "threads": torch.get_num_threads(),
        "load_s": load,
        "decode_gb_per_token": per_token / 1e9,
        "peak_rss_gib": int(peak.split()[1]) / 2**20,
        **stages,
    }
    if args.device != "cpu":
        result["peak_device_gib"] = torch.cuda.max_memory_allocated() / 2**30
    print(json.dumps(result))


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
