"""Networks of R1Seg-3D in PyTorch alone, for scripts/pytorch_reference.py.

The names of the weights are those of MONAI's vision transformer, of transformers' Phi-3 and of the
published mask decoder. Attention is SDPA, and keys and values of the language model lie in buffers
of a fixed length, so that everything can be compiled with CUDA graphs.
"""

import torch
import torch.nn.functional as F
from torch import nn

# The reference multiplies in 8 heads, in half the width between tokens and image.
HEADS, MLP, MASK_TOKENS, IOU_HIDDEN = 8, 2048, 4, 256


class Patches(nn.Module):
    """`[1, 1, D, H, W]` to `[1, N, E]`."""

    def __init__(self, image_size, patch_size, width):
        super().__init__()
        self.grid = [n // p for n, p in zip(image_size, patch_size)]
        self.patch_size = patch_size
        patches, voxels = (torch.Size(sizes).numel() for sizes in (self.grid, patch_size))
        # The first one regroups voxels in MONAI.
        self.patch_embeddings = nn.Sequential(nn.Identity(), nn.Linear(voxels, width))
        self.position_embeddings = nn.Parameter(torch.empty(1, patches, width))

    def forward(self, volume):
        (d, h, w), (pd, ph, pw) = self.grid, self.patch_size
        cells = volume.view(d, pd, h, ph, w, pw).permute(0, 2, 4, 1, 3, 5)
        return self.patch_embeddings(cells.reshape(1, d * h * w, -1)) + self.position_embeddings


class Block(nn.Module):
    def __init__(self, width, mlp, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width, bias=False), "out_proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {"linear1": nn.Linear(width, mlp), "linear2": nn.Linear(mlp, width)}
        )

    def forward(self, x):
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attn["out_proj"](found)
        return x + self.mlp["linear2"](F.gelu(self.mlp["linear1"](self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, image_size, patch_size, width, mlp, layers, heads):
        super().__init__()
        self.patch_embedding = Patches(image_size, patch_size, width)
        self.blocks = nn.ModuleList(Block(width, mlp, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, volume):
        x = self.patch_embedding(volume)
        for block in self.blocks:
            x = block(x)
        # MONAI's second value is what every block made.
        return self.norm(x), None


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(width)), eps

    def forward(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (wide * scale).to(x.dtype)


def rotated(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class DecoderLayer(nn.Module):
    def __init__(self, config, room):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        assert kv_heads == self.heads, "as many keys as queries"
        self.self_attn = nn.ModuleDict(
            {
                "qkv_proj": nn.Linear(hidden, 3 * hidden, bias=False),
                "o_proj": nn.Linear(hidden, hidden, bias=False),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_up_proj": nn.Linear(hidden, 2 * inner, bias=False),
                "down_proj": nn.Linear(inner, hidden, bias=False),
            }
        )
        self.input_layernorm = RmsNorm(hidden, config["rms_norm_eps"])
        self.post_attention_layernorm = RmsNorm(hidden, config["rms_norm_eps"])
        shape = (1, self.heads, room, hidden // self.heads)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.empty(shape), persistent=False)

    def forward(self, x, positions, cos, sin, mask):
        """With a mask, all that is stored is attended to; without one, `x` is the beginning."""
        qkv = self.self_attn["qkv_proj"](self.input_layernorm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        self.keys.index_copy_(2, positions, k)
        self.values.index_copy_(2, positions, v)
        if mask is None:
            found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            found = F.scaled_dot_product_attention(q, self.keys, self.values, attn_mask=mask)
        x = x + self.self_attn["o_proj"](found.transpose(1, 2).flatten(2))
        gate, up = self.mlp["gate_up_proj"](self.post_attention_layernorm(x)).chunk(2, -1)
        return x + self.mlp["down_proj"](F.silu(gate) * up)


class Phi3(nn.Module):
    """Room for `room` tokens, prompt and answer together."""

    def __init__(self, config, room):
        super().__init__()
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(vocabulary, hidden)
        layers = (DecoderLayer(config, room) for _ in range(config["num_hidden_layers"]))
        self.model.layers = nn.ModuleList(layers)
        self.model.norm = RmsNorm(hidden, config["rms_norm_eps"])
        self.lm_head = nn.Linear(hidden, vocabulary, bias=False)
        self.width = hidden // config["num_attention_heads"]
        self.theta = config["rope_theta"]
        for name in ("cos", "sin"):
            self.register_buffer(name, torch.empty(room, self.width), persistent=False)

    def fill(self):
        """What no checkpoint holds."""
        steps = torch.arange(0, self.width, 2, dtype=torch.float32) / self.width
        angles = torch.arange(len(self.cos))[:, None] / self.theta**steps
        angles = torch.cat((angles, angles), -1)
        self.cos.copy_(angles.cos())
        self.sin.copy_(angles.sin())
        for layer in self.model.layers:
            # What is masked is multiplied by zero, and must not be NaN.
            layer.keys.zero_()
            layer.values.zero_()

    def start(self, embeddings):
        """The state that predicts the token behind the prompt."""
        positions = torch.arange(embeddings.shape[1], device=embeddings.device)
        return self._run(embeddings, positions, None)

    def go_on(self, embeddings, position):
        """As `start`, of one token at a position `[1]`, on top of what is stored."""
        room = torch.arange(len(self.cos), device=embeddings.device)
        return self._run(embeddings, position, (room <= position)[None, None, None])

    def _run(self, x, positions, mask):
        cos, sin = self.cos[positions], self.sin[positions]
        for layer in self.model.layers:
            x = layer(x, positions, cos, sin, mask)
        return self.model.norm(x[:, -1])


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
