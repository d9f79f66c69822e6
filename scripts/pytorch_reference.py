"""R1Seg-3D in PyTorch, stage by stage, for scripts that compare with it: not a part of r1seg.

The vision transformer is MONAI's, the language model transformers' Phi-3 with SDPA, or both are of
pytorch_networks.py (`--plain`). The rest is written here after the published names and shapes of
the weights. A checkpoint folder with float weights is read straight into place, which is faster
than `from_pretrained`.

`--serve` reads lines, `eager` or `compiled`, and answers each with a line of JSON. The first one of
a kind warms up, or compiles: with CUDA graphs, and without where that fails.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pytorch_networks import MaskDecoder, Phi3, PromptEncoder, ViT

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def packages(config):
    """Makes MONAI's vision transformer and transformers' language model."""
    # Importing them computes, which cannot be done where tensors have no numbers.
    from monai.networks import nets
    from transformers import Phi3Config, Phi3ForCausalLM

    names = Phi3Config().to_dict()
    phi3 = Phi3Config(**{k: v for k, v in config.items() if k in names and k != "model_type"})
    phi3._attn_implementation = "sdpa"
    options = {"proj_type": "perceptron", "classification": False}
    return lambda: (nets.ViT(1, *vision_sizes(config), **options), Phi3ForCausalLM(phi3))


def plain(config, room):
    """As `packages`, without them."""
    return lambda: (ViT(*vision_sizes(config)), Phi3(config, room))


def vision_sizes(config):
    sizes = config["img_size"], config["patch_size"], config["mm_hidden_size"]
    more = {"mlp_dim": 3072, "num_layers": 12, "num_heads": 12}
    return *sizes, *(config.get(name, default) for name, default in more.items())


class Reference(nn.Module):
    """`room`: the tokens of prompt and answer, to be plain; 0 for the packages' networks."""

    def __init__(self, config, dtype, room):
        super().__init__()
        self.room, self.dtype = room, dtype
        self.image_size = config["img_size"]
        self.grid = [n // p for n, p in zip(self.image_size, config["patch_size"])]
        self.num_clicks = config["num_clicks"]
        self.pooling = config["proj_pooling_size"]
        embed, hidden = config["mm_hidden_size"], config["hidden_size"]
        networks = plain(config, room) if room else packages(config)
        with torch.device("meta"):
            self.vision, self.llm = networks()
            self.mm_projector = nn.Sequential(
                nn.Linear(embed, hidden), nn.GELU(), nn.Linear(hidden, hidden)
            )
            self.seg_projector = nn.Sequential(
                nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, embed)
            )
            self.prompt_encoder = PromptEncoder(embed)
            self.mask_decoder = MaskDecoder(embed, self.grid)
        self.to(dtype).to_empty(device="cpu").eval()
        # What is timed, as it is or compiled.
        parts = (self.encode, self.project, self.start, self.go_on, self.segment)
        self.eager = {part.__name__: part for part in parts}
        if room:
            self.llm.fill()
            return
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

    def encode(self, volume):
        return self.vision(volume)[0]

    def start(self, prompt):
        """The token that follows a prompt, and the state that predicts it."""
        if self.room:
            return self.predicted(self.llm.start(prompt))
        from transformers import DynamicCache

        self.cache = DynamicCache()
        return self.go_on(prompt, None)

    def go_on(self, embeddings, position):
        """As `start`, of a further token."""
        if self.room:
            return self.predicted(self.llm.go_on(embeddings, position))
        out = self.llm.model(inputs_embeds=embeddings, past_key_values=self.cache, use_cache=True)
        return self.predicted(out.last_hidden_state[:, -1])

    def predicted(self, state):
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


def answer(model, parts, volume_path, ids, tokens, device):
    """One question about one volume: seconds of each stage, the mask last."""
    stages = {}
    start = time.perf_counter()

    def stage(name, since):
        if device != "cpu":
            torch.cuda.synchronize()
        now = time.perf_counter()
        stages[name] = now - since
        return now

    volume = torch.from_numpy(np.load(volume_path)).to(device, model.dtype)
    volume = volume.view(1, 1, *model.image_size)
    now = stage("read_s", start)
    # A CUDA graph writes into the same memory when it runs again.
    features = parts["encode"](volume).clone()
    now = stage("vit_s", now)
    visual = parts["project"](features)
    now = stage("projector_s", now)
    embed = model.llm.model.embed_tokens
    words = embed(ids)
    prompt = torch.cat((words[:, :1], visual, words[:, 1 + visual.shape[1] :]), 1)
    token, state = parts["start"](prompt)
    token.item()
    states = [state.clone()]
    now = stage("prefill_s", now)
    positions = torch.arange(ids.shape[1], ids.shape[1] + tokens, device=device)
    for i in range(tokens - 1):
        forced = torch.zeros_like(ids[:, :1])
        token, state = parts["go_on"](embed(forced), positions[i : i + 1])
        token.item()
        states.append(state.clone())
    now = stage("decode_s", now)
    logits = parts["segment"](features, states[-2])
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
    parser.add_argument("--plain", action="store_true", help="needs neither MONAI nor transformers")
    parser.add_argument("--serve", action="store_true", help="implies --plain")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    start = time.perf_counter()
    config = json.loads((Path(args.folder) / "config.json").read_text())
    room = args.prompt_tokens + args.tokens if args.plain or args.serve else 0
    model = Reference(config, DTYPES[args.dtype], room)
    model.read(args.folder)
    model.to(args.device)
    load = time.perf_counter() - start
    torch.manual_seed(0)
    ids = torch.randint(3, config["vocab_size"] - 8, (1, args.prompt_tokens), device=args.device)

    def result(parts, kind):
        return measured(args, model, parts, ids) | {"load_s": load, "dtype": args.dtype + kind}

    if args.serve:
        serve(args, model, ids, result)
        return
    if args.compile:
        for module in (model.vision, model.llm.model, model.mask_decoder):
            module.compile(dynamic=True)
    if args.device != "cpu" or args.compile:
        # Kernels are loaded, or compiled, at their first use.
        answer(model, model.eager, args.volume, ids, args.tokens, args.device)
    print(json.dumps(result(model.eager, " compiled" if args.compile else "")))


def measured(args, model, parts, ids):
    """Medians of some answers, in warm state."""
    if args.device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    runs = [
        answer(model, parts, args.volume, ids, args.tokens, args.device) for _ in range(args.runs)
    ]
    stages = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    language = model.llm.state_dict().items()
    per_token = sum(t.nbytes for name, t in language if name != "model.embed_tokens.weight")
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    result = {
        "device": args.device,
        "threads": torch.get_num_threads(),
        "decode_gb_per_token": per_token / 1e9,
        "peak_rss_gib": int(peak.split()[1]) / 2**20,
        **stages,
    }
    if args.device != "cpu":
        result["peak_device_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return result


def compiled(model, graphs):
    mode = "reduce-overhead" if graphs else "default"
    return {name: torch.compile(part, mode=mode) for name, part in model.eager.items()}


def serve(args, model, ids, result):
    ready = {}

    def prepare(parts, answers, **facts):
        start = time.perf_counter()
        for _ in range(answers):
            answer(model, parts, args.volume, ids, args.tokens, args.device)
        prepared = time.perf_counter() - start
        return parts, {"torch": torch.__version__, "prepare_s": prepared, **facts}

    for line in sys.stdin:
        kind = line.strip()
        if kind not in ready and kind == "eager":
            ready[kind] = prepare(model.eager, 2)
        elif kind not in ready:
            try:
                graphs = args.device != "cpu"
                ready[kind] = prepare(compiled(model, graphs), 4, cuda_graphs=graphs)
            except Exception as error:
                print(f"without CUDA graphs, for {error}", file=sys.stderr)
                torch._dynamo.reset()
                ready[kind] = prepare(compiled(model, False), 2, cuda_graphs=False)
        parts, facts = ready[kind]
        figures = result(parts, "" if kind == "eager" else " compiled")
        print(json.dumps(figures | facts), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
