#!/usr/bin/env python3
"""Make the tiny GGUF models of ``swarmplane/models`` anew, from nothing but this file.

No download, no third-party weights or text: the vocabulary, the chat template, the weights and the training
text are all made here. The files load in every llama.cpp build. Two ways to get weights:

chain    Closed form: every token has exactly one likely successor, so the answer is one known English sentence
         whatever the prompt, at any sane temperature. numpy and gguf, under a second, byte-identical anywhere.
trained  A minute of PyTorch on the CPU on questions and answers; the answers follow the question. Needs torch.
         Which bytes come out differs between machines, so the file is kept.

    pip install gguf numpy torch
    python scripts/make_tiny_gguf.py                      # both models, into swarmplane/models
    python scripts/make_tiny_gguf.py --mode chain --out x.gguf --loop --ctx 32768     # an answer without end

What makes such a file load:

* Architecture "llama": interleaved RoPE pairs (2i, 2i+1), RMSNorm, SwiGLU, no biases.
* A matrix that maps n_in to n_out is a numpy array of shape (n_out, n_in); readers show it reversed. Without
  "output.weight" the output is tied to "token_embd.weight".
* Tokenizer "llama" (SentencePiece style): 256 BYTE tokens are needed, a newline is only reachable as <0x0A>, a
  space is U+2581, and a piece is reachable only if two pieces of the vocabulary merge into it (so a word needs
  all its prefixes, or BPE merges).
* Roles are CONTROL tokens; a turn ends with EOS, so that every engine stops there.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import gguf
import numpy as np

SP = "\u2581"  # SentencePiece's visible space
TT = gguf.TokenType
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ANSWER = (  # every word differs, so that each token has one successor
    "Hello from the tiny swarm model. Each word here comes out of a real forward pass, layer by "
    "layer, and every machine that holds some blocks must answer before this sentence can end."
)


# ------------------------------------------------------------------------------- vocabulary
class Vocab:
    """SentencePiece-like vocabulary plus the same greedy merge that llama.cpp runs."""

    def __init__(self):
        self.text, self.score, self.kind, self.id = [], [], [], {}

    def add(self, text, score=0.0, kind=TT.NORMAL):
        if text not in self.id:
            self.id[text] = len(self.text)
            self.text.append(text)
            self.score.append(score)
            self.kind.append(int(kind))
        return self.id[text]

    @classmethod
    def base(cls):
        v = cls()
        v.add("<unk>", 0.0, TT.UNKNOWN)
        v.add("<s>", 0.0, TT.CONTROL)
        v.add("</s>", 0.0, TT.CONTROL)
        for b in range(256):
            v.add(f"<0x{b:02X}>", 0.0, TT.BYTE)
        for role in ("system", "user", "assistant", "tool"):
            v.add(f"<|{role}|>", 0.0, TT.CONTROL)
        for c in [SP] + [chr(c) for c in range(33, 127)]:
            v.add(c, -1000.0)
        return v

    def encode(self, text):
        """Text without control tokens -> ids (what llama.cpp gives with add_space_prefix off)."""
        sym = list(text.replace(" ", SP))
        while True:
            best, at = None, -1
            for i in range(len(sym) - 1):
                t = self.id.get(sym[i] + sym[i + 1])
                if t is not None and (best is None or self.score[t] > best):
                    best, at = self.score[t], i
            if at < 0:
                break
            sym[at : at + 2] = [sym[at] + sym[at + 1]]
        out = []
        for s in sym:
            if s in self.id:
                out.append(self.id[s])
            else:
                out += [self.id[f"<0x{b:02X}>"] for b in s.encode()]
        return out


def words_of(text):
    """'the cat' -> ['the', '▁cat'] : pieces never hold a space except in front."""
    out = []
    for line in text.replace(" ", SP).split("\n"):
        cur = ""
        for c in line:
            if c == SP and cur:
                out.append(cur)
                cur = ""
            cur += c
        if cur:
            out.append(cur)
    return out


def bpe_vocab(texts, size):
    v = Vocab.base()
    counts = {}
    for t in texts:
        for w in words_of(t):
            counts[w] = counts.get(w, 0) + 1
    split = {w: list(w) for w in counts}
    rank = 0
    while len(v.text) < size:
        pairs = {}
        for w, n in counts.items():
            s = split[w]
            for a, b in zip(s, s[1:]):
                pairs[a, b] = pairs.get((a, b), 0) + n
        if not pairs:
            break
        (a, b), n = max(pairs.items(), key=lambda kv: (kv[1], kv[0]))
        rank += 1
        v.add(a + b, -float(rank))
        for w in split:
            s, i = split[w], 0
            while i < len(s) - 1:
                if s[i] == a and s[i + 1] == b:
                    s[i : i + 2] = [a + b]
                i += 1
    while len(v.text) < size:  # pad to a round size
        v.add(f"<|unused{len(v.text)}|>", 0.0, TT.CONTROL)
    return v


def chain_vocab(answer, size):
    v = Vocab.base()
    chain = []
    for i, w in enumerate(words_of(answer)):
        for n in range(2, len(w) + 1):  # prefix closure: reachable by merging left to right
            v.add(w[:n], -1.0)
        chain.append(v.id[w])
    assert len(set(chain)) == len(chain), "the words of the answer must all differ"
    if len(v.text) > size:
        size = -(-len(v.text) // 64) * 64
    while len(v.text) < size:
        v.add(f"<|unused{len(v.text)}|>", 0.0, TT.CONTROL)
    return v, chain


# ------------------------------------------------------------------------------- weights
def shapes(a, n_vocab):
    hd = a.dim // a.heads
    out = {"token_embd.weight": (n_vocab, a.dim)}
    for i in range(a.layers):
        p = f"blk.{i}."
        out[p + "attn_norm.weight"] = (a.dim,)
        out[p + "attn_q.weight"] = (a.heads * hd, a.dim)
        out[p + "attn_k.weight"] = (a.kv_heads * hd, a.dim)
        out[p + "attn_v.weight"] = (a.kv_heads * hd, a.dim)
        out[p + "attn_output.weight"] = (a.dim, a.heads * hd)
        out[p + "ffn_norm.weight"] = (a.dim,)
        out[p + "ffn_gate.weight"] = (a.ffn, a.dim)
        out[p + "ffn_up.weight"] = (a.ffn, a.dim)
        out[p + "ffn_down.weight"] = (a.dim, a.ffn)
    out["output_norm.weight"] = (a.dim,)
    return out


def random_weights(a, n_vocab, rng, small_out=False):
    w = {}
    for name, shp in shapes(a, n_vocab).items():
        if "norm" in name:
            w[name] = np.ones(shp, np.float32)
        else:
            std = 1.0 / np.sqrt(shp[-1])
            if small_out and ("attn_output" in name or "ffn_down" in name):
                std *= 2e-2 / np.sqrt(
                    a.layers
                )  # the blocks run and contribute, but do not overrule the chain
            w[name] = rng.normal(0, std, shp).astype(np.float32)
    return w


def chain_weights(a, v, chain, rng):
    """Random unit embeddings; output row of token t = sum of the embeddings of its predecessors."""
    n = len(v.text)
    w = random_weights(a, n, rng, small_out=True)
    emb = rng.normal(0, 1, (n, a.dim))
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    w["token_embd.weight"] = emb.astype(np.float32)
    out = np.zeros((n, a.dim))
    bos, eos = v.id["<s>"], v.id["</s>"]
    last = chain[0] if a.loop else eos
    nxt = {t: u for t, u in zip(chain, chain[1:])}
    nxt[chain[-1]] = last
    for t in range(n):  # anything else starts the answer
        nxt.setdefault(t, chain[0])
    scale = 30.0 / np.sqrt(a.dim)  # rms-normalised hidden state has length sqrt(dim)
    for t in chain:
        out[nxt[t]] += emb[t] * scale
    for special in (bos, eos, v.id["<|assistant|>"]):
        out[chain[0]] += emb[special] * scale
    w["output.weight"] = out.astype(np.float32)
    return w


# ------------------------------------------------------------------------------- training
def make_corpus(rng):
    """Question/answer pairs over a small made-up world (text written for this script)."""
    things = {
        "sky": ("blue", "above us"),
        "grass": ("green", "in the garden"),
        "snow": ("white", "on the hill"),
        "coal": ("black", "in the cellar"),
        "sun": ("yellow", "above us"),
        "rose": ("red", "in the garden"),
        "carrot": ("orange", "in the kitchen"),
        "plum": ("purple", "on the tree"),
        "stone": ("grey", "by the river"),
        "apple": ("red", "on the tree"),
        "leaf": ("green", "on the tree"),
        "sea": ("blue", "by the town"),
        "moon": ("white", "above us"),
        "lemon": ("yellow", "in the kitchen"),
        "bread": ("brown", "in the kitchen"),
        "bear": ("brown", "in the forest"),
        "fox": ("red", "in the forest"),
        "swan": ("white", "by the river"),
    }
    animals = {
        "dog": ("barks", "bones"),
        "cat": ("purrs", "fish"),
        "cow": ("moos", "grass"),
        "bird": ("sings", "seeds"),
        "lion": ("roars", "meat"),
        "bee": ("hums", "honey"),
        "frog": ("croaks", "flies"),
        "horse": ("neighs", "hay"),
    }
    nums = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen".split()
    qa = []
    for t, (c, where) in things.items():
        for q in (f"What color is the {t}?", f"Which color has the {t}?", f"Tell me the color of the {t}."):
            qa.append((q, f"The {t} is {c}."))
        for q in (f"Where is the {t}?", f"Where can I find the {t}?"):
            qa.append((q, f"The {t} is {where}."))
        qa.append((f"Is the {t} {c}?", f"Yes, the {t} is {c}."))
        other = rng.choice([x[0] for x in things.values() if x[0] != c])
        qa.append((f"Is the {t} {other}?", f"No, the {t} is {c}."))
    for t, (s, f) in animals.items():
        qa += [
            (f"What does the {t} do?", f"The {t} {s}."),
            (f"What does the {t} eat?", f"The {t} eats {f}."),
            (f"Tell me about the {t}.", f"The {t} {s} and eats {f}."),
        ]
    for i in range(10):
        for j in range(9):
            qa.append(
                (
                    f"What is {nums[i]} plus {nums[j]}?",
                    f"{nums[i].capitalize()} plus {nums[j]} is {nums[i + j]}.",
                )
            )
    qa += [
        (q, "Hello! I am a tiny model. How can I help you?")
        for q in ("Hello", "Hello!", "Hi", "Hi!", "Good day", "Hey")
    ]
    qa += [
        (q, "I am a tiny model that runs on the swarm.")
        for q in ("Who are you?", "What are you?", "What is your name?")
    ]
    qa += [
        (
            q,
            "Once there was a fox in the forest. The fox saw a red apple on the tree. The fox said hello to the bird, "
            "and the bird sings. Then the sun went down, the moon came up, and all was good.",
        )
        for q in ("Tell me a story.", "Tell me a story", "Write a story.", "A story, please.")
    ]
    qa += [
        (q, "One, two, three, four, five, six, seven, eight, nine, ten.")
        for q in ("Count to ten.", "Please count to ten.")
    ]
    return qa


def train(a, rng):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    qa = make_corpus(rng)
    v = bpe_vocab([t for q, r in qa for t in (q, r)], a.vocab)
    cache = {}

    def enc(text):
        if text not in cache:
            cache[text] = [t for w in words_of(text) for t in v.encode(w)]
        return cache[text]

    eos, bos, usr, ast, sysm = (v.id[x] for x in ("</s>", "<s>", "<|user|>", "<|assistant|>", "<|system|>"))

    def sample():
        ids, tgt = [bos], [-100]
        if rng.random() < 0.2:
            s = enc("You are a helpful model.")
            ids += [sysm] + s + [eos]
            tgt += [-100] * (len(s) + 2)
        while True:
            q, r = rng.choice(qa)
            q, r = enc(q), enc(r)
            if len(ids) + len(q) + len(r) + 4 > a.train_ctx:
                break
            ids += [usr] + q + [eos, ast] + r + [eos]
            tgt += [-100] * (len(q) + 3) + r + [eos]
        pad = a.train_ctx - len(ids)
        return ids + [eos] * pad, tgt + [-100] * pad

    hd = a.dim // a.heads
    pos = torch.arange(a.train_ctx).float()
    inv = a.rope_base ** (-torch.arange(0, hd, 2).float() / hd)
    ang = pos[:, None] * inv[None]
    cos, sin = ang.cos(), ang.sin()

    def rope(x):  # x: B H T D, interleaved pairs
        x0, x1 = x[..., 0::2], x[..., 1::2]
        return torch.stack((x0 * cos - x1 * sin, x0 * sin + x1 * cos), -1).flatten(-2)

    def norm(x, g):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * g

    P = {}
    for name, arr in random_weights(a, len(v.text), np.random.default_rng(a.seed), small_out=False).items():
        if "norm" not in name:
            arr = arr * (0.4 if ("attn_output" in name or "ffn_down" in name) else 1.0)
        P[name] = nn.Parameter(torch.from_numpy(arr.copy()))
    opt = torch.optim.AdamW(P.values(), lr=a.lr, betas=(0.9, 0.95), weight_decay=0.01)

    def forward(ids):
        B, T = ids.shape
        x = F.embedding(ids, P["token_embd.weight"])
        for i in range(a.layers):
            p = f"blk.{i}."
            h = norm(x, P[p + "attn_norm.weight"])
            q = rope((h @ P[p + "attn_q.weight"].T).view(B, T, a.heads, hd).transpose(1, 2))
            k = rope((h @ P[p + "attn_k.weight"].T).view(B, T, a.kv_heads, hd).transpose(1, 2))
            u = (h @ P[p + "attn_v.weight"].T).view(B, T, a.kv_heads, hd).transpose(1, 2)
            rep = a.heads // a.kv_heads
            o = F.scaled_dot_product_attention(
                q, k.repeat_interleave(rep, 1), u.repeat_interleave(rep, 1), is_causal=True
            )
            x = x + o.transpose(1, 2).reshape(B, T, -1) @ P[p + "attn_output.weight"].T
            h = norm(x, P[p + "ffn_norm.weight"])
            x = (
                x
                + (F.silu(h @ P[p + "ffn_gate.weight"].T) * (h @ P[p + "ffn_up.weight"].T))
                @ P[p + "ffn_down.weight"].T
            )
        return norm(x, P["output_norm.weight"]) @ P["token_embd.weight"].T

    t0, step, loss_v = time.time(), 0, 0.0
    while time.time() - t0 < a.seconds:
        frac = min(1.0, (time.time() - t0) / a.seconds)
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1.0, (step + 1) / 30) * (1.0 - 0.95 * frac)
        b = [sample() for _ in range(a.batch)]
        ids, tgt = torch.tensor([x[0] for x in b]), torch.tensor([x[1] for x in b])
        logits = forward(ids)[:, :-1]
        loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), tgt[:, 1:].reshape(-1), ignore_index=-100)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(P.values(), 1.0)
        opt.step()
        step += 1
        loss_v = loss.item()
        if step % 25 == 0:
            print(f"step {step} loss {loss_v:.4f} {time.time() - t0:.0f}s", flush=True)
        if loss_v < a.stop_loss:
            break
    print(
        f"trained {step} steps, loss {loss_v:.4f}, {time.time() - t0:.0f}s, {sum(p.numel() for p in P.values())} parameters"
    )
    return v, {k: p.detach().numpy() for k, p in P.items()}


# ------------------------------------------------------------------------------- writing
def write(path, a, v, weights, name):
    q = {
        "f32": gguf.GGMLQuantizationType.F32,
        "f16": gguf.GGMLQuantizationType.F16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }[a.type]
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(name)
    w.add_file_type(
        {
            "f32": gguf.LlamaFileType.ALL_F32,
            "f16": gguf.LlamaFileType.MOSTLY_F16,
            "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        }[a.type]
    )
    w.add_context_length(a.ctx)
    w.add_embedding_length(a.dim)
    w.add_block_count(a.layers)
    w.add_feed_forward_length(a.ffn)
    w.add_head_count(a.heads)
    w.add_head_count_kv(a.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(a.dim // a.heads)
    w.add_rope_freq_base(a.rope_base)
    w.add_vocab_size(len(v.text))
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(v.text)
    w.add_token_scores(v.score)
    w.add_token_types(v.kind)
    w.add_unk_token_id(v.id["<unk>"])
    w.add_bos_token_id(v.id["<s>"])
    w.add_eos_token_id(v.id["</s>"])
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(CHAT_TEMPLATE)
    for tname, arr in weights.items():
        if arr.ndim == 1 or q == gguf.GGMLQuantizationType.F32:
            w.add_tensor(tname, np.ascontiguousarray(arr, np.float32))
        elif q == gguf.GGMLQuantizationType.F16:
            w.add_tensor(tname, arr.astype(np.float16))
        else:
            w.add_tensor(tname, gguf.quants.quantize(np.ascontiguousarray(arr, np.float32), q), raw_dtype=q)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


MODELS = Path(__file__).resolve().parent.parent / "swarmplane" / "models"


def make(a):
    """One file as asked for."""
    if a.mode == "trained":
        v, weights = train(a, random.Random(a.seed))
    else:
        v, chain = chain_vocab(a.answer, a.vocab)
        weights = chain_weights(a, v, chain, np.random.default_rng(a.seed))
    write(a.out, a, v, weights, f"tiny-{a.mode}")
    size = Path(a.out).stat().st_size
    print(f"{a.out}: {size} bytes, {len(v.text)} tokens, {a.layers} layers, dim {a.dim}")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--mode", choices=("all", "chain", "trained"), default="all")
    ap.add_argument("--out", help="file to write; without it, the project's own (both, with --mode all)")
    ap.add_argument("--type", choices=("f32", "f16", "q8_0"), default="q8_0")
    ap.add_argument("--layers", type=int, default=4)
    ap.add_argument("--dim", type=int, default=128)
    ap.add_argument("--ffn", type=int, default=256)
    ap.add_argument("--heads", type=int, default=4)
    ap.add_argument("--kv-heads", type=int, default=2)
    ap.add_argument("--ctx", type=int, default=2048, help="context length written in the header")
    ap.add_argument("--vocab", type=int, default=512)
    ap.add_argument("--rope-base", type=float, default=10000.0)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--answer", default=ANSWER, help="chain: the sentence; its words must all differ")
    ap.add_argument("--loop", action="store_true", help="chain: start over instead of ending")
    ap.add_argument("--seconds", type=float, default=240, help="trained: longest training")
    ap.add_argument("--stop-loss", type=float, default=0.015)
    ap.add_argument("--batch", type=int, default=16)
    ap.add_argument("--train-ctx", type=int, default=192)
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    if a.mode == "all" and a.out:
        ap.error("--out needs --mode chain or --mode trained")
    for mode in ("chain", "trained") if a.mode == "all" else (a.mode,):
        a.mode, out = mode, a.out
        a.out = out or str(MODELS / f"tiny-{mode}-q8.gguf")
        make(a)
        a.out = out
    return 0


if __name__ == "__main__":
    sys.exit(main())
