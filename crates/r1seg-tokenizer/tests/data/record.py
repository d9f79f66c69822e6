"""Records the files of this folder: python record.py GOLDEN TOKENIZERS [TEXTS]

GOLDEN: the folder of golden checkpoints. TOKENIZERS: the folder with phi-3-mini, llama2-spm, llama3,
qwen2.5, bert-base-uncased and clip. TEXTS: random texts and answers per configuration (60 are committed; thousands find more).
"""

import io
import json
import os
import random
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import sentencepiece as spm
from safetensors.numpy import load_file
from sentencepiece import sentencepiece_model_pb2 as pb
from transformers import (
    AutoTokenizer, BertTokenizer, CLIPTokenizerFast, LlamaTokenizer, LlamaTokenizerFast,
)

OUT = Path(__file__).parent
GOLDEN, TOKENIZERS = Path(sys.argv[1]), Path(sys.argv[2])
N_TEXTS = int(sys.argv[3]) if len(sys.argv) > 3 else 60
SPECIAL = ["<im_patch>", "<bx_start>", "<bx_end>"]

ORGANS = "liver spleen kidney pancreas aorta lung heart bladder stomach colon gallbladder oesophagus"
SENTENCES = [
    "Can you segment the {} in this image?",
    "Please segment the {} and provide the mask.",
    "What is the {}? Please respond with segmentation mask.",
    "Sure, it is [SEG].",
    "The {} is [0.125, 0.25, 0.5, 0.875, 0.9, 1.0].",
    "Where is the {} lesion? It does not look enlarged.",
    "There is no {} in this volume.",
    "Describe the findings near the {}; don't guess.",
    "a bb ccc dddd  {}   {}",
]

ADDED = [*SPECIAL, "[SEG]", "<s>", "</s>"]
CHARACTERS = [*"  aeilnrst .,?'\n\t▁", "肝", "é", "🫁", "ا", "\u200b", "\x1c", " n't", " 's", "<0x0A>", "<unk>"]
WORDS = ["Can", "you", "segment", "the", "liver", "kidney", "kidney!", "mask", "[0.125, 0.25]", "?", "."]
FIXED = [
    "", " ", "  ", "▁", "▁▁ x", "[SEG]", "x[SEG]y", " [SEG] ", "<im_patch><im_patch>Can",
    "<im_patch><im_patch> Can", "<im_patch>  Can", "<s>x", "<s> x", "</s>", "a</s> b",
    "<im_patch>[SEG]<im_patch>", "[SEG][SEG]", "[SEG] [SEG]", "<unk>x", "x<unk>",
    "\n\n<bx_start>[0.1, 0.2]<bx_end>", "The liver is [SEG].", "肝脏[SEG]肝", "🫁🫁",
]


def write(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(text, encoding="utf-8")


def golden_cases():
    cases = []
    for path in sorted(GOLDEN.glob("*/golden/case[0-9].json")):
        case = json.loads(path.read_text())
        if "prompt" not in case:
            continue
        tensors = load_file(path.with_suffix(".expected.safetensors"))
        kept = {key: case.get(key) for key in ["prompt", "n_image_tokens", "text", "raw"]}
        ids = {key: tensors[key].ravel().tolist() for key in ["input_ids", "output_ids"]}
        cases.append({"case": f"{path.parts[-3]}/{path.stem}", **kept, **ids})
    return cases


def train_models():
    lines = [s.replace("{}", organ) for s in SENTENCES for organ in ORGANS.split()] * 3
    buffer = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=buffer, vocab_size=640, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, split_digits=True, character_coverage=0.999,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1,
    )
    (OUT / "spm/tokenizer.model").write_bytes(buffer.getvalue())

    model = pb.ModelProto.FromString(buffer.getvalue())
    model.normalizer_spec.remove_extra_whitespaces = True
    model.pieces.add(piece="kidney!", score=0, type=4)
    for piece in model.pieces:
        if piece.piece in ("▁the", "▁se", "gm", "▁p"):
            piece.type = 5
    (OUT / "spm/flags.model").write_bytes(model.SerializeToString())

    model = pb.ModelProto.FromString(buffer.getvalue())
    model.trainer_spec.byte_fallback = False
    for piece in model.pieces:
        if piece.type == 6:
            piece.type = 1
    (OUT / "spm/no_bytes.model").write_bytes(model.SerializeToString())


def load(files, config, **kwargs):
    folder = Path(tempfile.mkdtemp())
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return AutoTokenizer.from_pretrained(folder, **kwargs)


def add_four(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.add_tokens("[SEG]")


def random_text(added):
    text = ""
    for _ in range(random.randint(0, 9)):
        kind = random.random()
        if kind < 0.28:
            text += random.choice(added)
        elif kind < 0.6:
            text += random.choice(CHARACTERS)
        else:
            text += random.choice(["", " ", " ", "  "]) + random.choice(WORDS)
    return text


def random_answer(tokenizer, added):
    # Id 3 + b is byte b in every Llama-style vocabulary, and some token in the others.
    some_bytes = [3 + b for b in [0xE8, 0x82, 0x9D, 0xF0, 0x9F, 0x20, 0x41, 0xFF, 0xC3, 0xA9]]
    kinds = [added] * 2 + [some_bytes] * 3 + [range(len(tokenizer))] * 4
    return [random.choice(random.choice(kinds)) for _ in range(random.randint(0, 10))]


def record(tokenizer, name, added=(), n=N_TEXTS, **about):
    added = [*ADDED, *added]
    texts = FIXED + [random_text(added) for _ in range(n)]
    ids = [tokenizer(text).input_ids for text in texts]
    added_ids = [i for i in map(tokenizer.convert_tokens_to_ids, added) if i is not None]
    answers = ids[-20:] + [random_answer(tokenizer, added_ids) for _ in range(n)]
    return {
        "name": name, **about, "len": len(tokenizer), "texts": texts, "ids": ids,
        "answers": answers,
        "decoded": tokenizer.batch_decode(answers, skip_special_tokens=True),
        "raw": tokenizer.batch_decode(answers, skip_special_tokens=False),
    }


def token(content, **flags):
    off = dict.fromkeys(["lstrip", "rstrip", "normalized", "single_word", "special"], False)
    return {"content": content, **off, **flags}


def record_small():
    base = {
        "tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True,
        "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "pad_token": "<unk>",
    }
    listed = {"0": token("<unk>", special=True), "1": token("<s>", special=True)}
    flags = {
        **listed, "2": token("</s>", rstrip=True),
        "640": token("<im_patch>", special=True, lstrip=True),
        "641": token("<bx_start>", special=True, rstrip=True),
        "642": token("<bx_end>", special=True, single_word=True),
        "643": token("[SEG]", lstrip=True, rstrip=True),
    }
    eos = {**listed, "2": token("</s>"), "640": token("<|end|>", special=True)}
    cases = [
        ("default", "tokenizer.model", {}),
        ("legacy", "tokenizer.model", {"legacy": True}),
        ("no_bos_eos", "tokenizer.model", {"add_bos_token": False, "add_eos_token": True}),
        ("no_prefix_space", "tokenizer.model", {"add_prefix_space": False}),
        ("clean_up", "tokenizer.model", {"clean_up_tokenization_spaces": True}),
        ("flags", "flags.model", {}),
        ("flags_legacy", "flags.model", {"legacy": True}),
        ("no_bytes", "no_bytes.model", {}),
        ("token_flags", "tokenizer.model",
         {"added_tokens_decoder": flags, "additional_special_tokens": SPECIAL}),
        ("eos_elsewhere", "tokenizer.model", {"eos_token": "<|end|>", "added_tokens_decoder": eos}),
    ]
    records = []
    for name, model, changes in cases:
        config = {**base, **changes}
        files = {"tokenizer.model": (OUT / "spm" / model).read_bytes()}
        tokenizer = load(files, config, use_fast=False)
        assert type(tokenizer) is LlamaTokenizer
        if name != "token_flags":
            add_four(tokenizer)
        records.append(record(tokenizer, name, model=model, config=config))
        if name == "default":
            slow = tempfile.mkdtemp()
            tokenizer.save_pretrained(slow)

    fast = LlamaTokenizerFast.from_pretrained(slow, from_slow=True)
    folder = Path(tempfile.mkdtemp())
    fast.save_pretrained(folder)
    write("spm/tokenizer.json", json.loads((folder / "tokenizer.json").read_text()))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "LlamaTokenizerFast"
    records.append(record(fast, "fast", model="tokenizer.json", config=config))
    return records


def record_real():
    records = []
    for folder, name, changes, use_fast in [
        ("phi-3-mini", "phi-3-mini", {}, False),
        ("phi-3-mini", "phi-3-mini-legacy", {"legacy": True, "add_bos_token": True}, False),
        ("phi-3-mini", "phi-3-mini-fast", {"tokenizer_class": "PreTrainedTokenizerFast"}, False),
        ("phi-3-mini", "phi-3-mini-llama-fast",
         {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True}, True),
        ("llama2-spm", "llama2-spm", {}, False),
        ("llama3", "llama3", {}, False),
        ("qwen2.5", "qwen2.5", {}, True),
    ]:
        files = {path.name: path.read_bytes() for path in (TOKENIZERS / folder).glob("tokenizer*")}
        config = files.pop("tokenizer_config.json", None)
        default = {"tokenizer_class": "LlamaTokenizer", "legacy": False}
        config = {**(json.loads(config) if config else default), **changes}
        tokenizer = load(files, config, use_fast=use_fast)
        add_four(tokenizer)
        added = [t for t in tokenizer.all_special_tokens if t not in ADDED][:4]
        added += ["<|end|>", "<|assistant|>"] if "phi" in folder else []
        records.append(record(tokenizer, name, added, folder=folder, config=changes))
    return records


# Text encoders split words by rules of their own: accents, scripts, controls, lengths, symbols.
DIFFICULT = [
    "liver", "The liver is enlarged.", "Gr\xf6\xdfe \u809d",
    "No abnormality is seen in the spleen.", "hepato-splenomegaly (3.5 x 2.1 cm)",
    "na\xefve fa\xe7ade", "\xc0\xc9\xce\xd5\xdc", "\u0130stanbul",
    "\u039f\u0394\u039f\u03a3 \u03a3", "\xdf \u1e9e", "\ufb01brosis", "x" * 99, "x" * 100,
    "x" * 101, "\u00e9" * 100, "\u00e9" * 101, "\u200bzero\u200bwidth", "soft\xadhyphen",
    "tab\tnew\nline\r\nend", "nbsp\xa0here", "a\u0301 b\u0308", "e\u0301\u0301\u0301",
    "\u809d\u81d3\u3068\u813e\u81d3", "\uac04\uc740 \uc5b4\ub514\uc5d0",
    "\u043f\u0435\u0447\u0435\u043d\u044c", "\u0627\u0644\u0643\u0628\u062f", "\u05db\u05d1\u05d3",
    "\U0001fac1\U0001fac0", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\ufeffbom", "\ufffd",
    "a\ufffdb", "\x01\x02c", "1,234.56 mL/min", "10\u207b\xb3", "m\xb2", "\xbd dose", "\u21165",
    "\u201cquoted\u201d", "it's", "don't", "[UNKNOWN]", "[sep", "##ing", "__init__", "a_b-c",
    "C:\\path", "http://x.y/z?q=1", "A.B.C.", "...", "!!!???", "$100", "50%", "#1", "@user",
    "\u03b1-fetoprotein", "\xb5g", "\xc5", "\u03a9", "\u2135", "\u2167", "\u2460", "\u338f",
    "\uff46\uff55\uff4c\uff4c", "\uff8a\uff9d\uff76\uff78", "\u3000wide", "\u2028line",
    "\u2029para", "\x85nel", "\x1f", "\x7f", "\ue000private", "\ud7a3", "\U0001d4b3", "\U00020000",
    "a\U00020000b", "i\u0307", "\u01c5", "\u0149", "\u0390", "\ufb03", "Stra\xdfe", "CT-guided",
    "T2-weighted", "L4/L5", "\u22653 cm", "\u2192", "\xb15 mm \u2014 \u0153d\xe8me", "''", '""',
    "``", "~^|", "<p>", "&amp;", "{box}", "(((", "a" * 250, " ".join(["liver"] * 40),
]
DIFFICULT_CHARACTERS = (
    "abcXYZ \u00e9\u00c9\u00df\u0130\u03a3\u03c3\u03c2\u00f1\u809d\u81d3\u306e\uac04\U0001fac1.,-'\"#[]_/\\ \t\n"
    "\u00a0\u200b\u0301\u0308\ufb01\u03a9\u00b50123\u00bd\u2460\u00ad\ufffd"
)


def record_text_encoders():
    chance = random.Random(14)
    texts = list(DIFFICULT)
    while len(texts) < 200:
        n = chance.randrange(1, 24)
        texts.append("".join(chance.choice(DIFFICULT_CHARACTERS) for _ in range(n)))
    bert = BertTokenizer(TOKENIZERS / "bert-base-uncased/vocab.txt")
    clip = CLIPTokenizerFast.from_pretrained(TOKENIZERS / "clip")
    return [
        {"text": text, "bert": bert(text).input_ids, "clip": clip(text).input_ids}
        for text in texts
    ]


random.seed(7)
for folder in ["golden", "spm"]:
    (OUT / folder).mkdir(exist_ok=True)
write("golden/cases.json", golden_cases())
train_models()
write("spm/oracle.json", record_small())
write("oracle_real.json", record_real())
write("text_encoders.json", record_text_encoders())
