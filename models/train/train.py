"""Trains both networks on rendered caps: the U-Net first, then the classifier's tail on the U-Net's encoder.

  python train.py SETS OUT    # SETS/train and SETS/val from `elek simulate --render`; writes OUT/*.pt
"""
import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from data import LABELS, MASK_LABELS, SIZE, load
from nets import FROZEN_BLOCKS, Classifier, Tail, UNet, macs

MEAN, SCALE = 127.0, 128.0
BATCH = 24


def to_input(pixels):
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    return ((x - MEAN) / SCALE).contiguous(memory_format=torch.channels_last)


def relight(x, rng):
    """Light that differs: gain, offset, white balance. No turns or mirrors: the lamp hangs where it hangs."""
    u = lambda low, high, *shape: torch.from_numpy(rng.uniform(low, high, (len(x), *shape, 1, 1))).float()
    v = (x * SCALE + MEAN) * u(0.88, 1.12, 1) * u(0.96, 1.04, 3) + u(-6, 6, 1)
    return ((v.clamp(0, 255) - MEAN) / SCALE).contiguous(memory_format=torch.channels_last)


def mask_loss(z, m):
    """Cross-entropy per pixel and class, and soft Dice of the class that is there."""
    t = F.one_hot(m.long(), len(LABELS)).permute(0, 3, 1, 2)[:, 1:].float()
    bce = F.binary_cross_entropy_with_logits(z, t, pos_weight=torch.tensor(3.0))
    p, has = z.sigmoid(), t.flatten(2).any(2)
    dice = 1 - (2 * (p * t).flatten(2).sum(2) + 1) / (p.flatten(2).sum(2) + t.flatten(2).sum(2) + 1)
    false = p.flatten(2).topk(40, 2).values.mean(2)
    return 4 * bce + 0.8 * dice[has].mean() + 0.5 * false[~has].mean()


class Average:
    """Running average of the weights, which generalises better than the last step's."""

    def __init__(self, net, keep):
        self.net, self.keep = net, keep
        self.state = {k: v.clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self):
        for k, v in self.net.state_dict().items():
            if v.is_floating_point():
                self.state[k].lerp_(v, 1 - self.keep)
            else:
                self.state[k].copy_(v)


def train_unet(data, val, steps):
    x, m, _ = data
    rng = np.random.RandomState(0)
    net = UNet().to(memory_format=torch.channels_last)
    decoder = [p for k in (net.d3, net.d2, net.d1, net.out) for p in k.parameters()]
    encoder = [p for b in net.encoder.blocks[FROZEN_BLOCKS:] for p in b.parameters()]
    opt = torch.optim.AdamW([{"params": encoder}, {"params": decoder}], weight_decay=1e-2)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, [8e-4, 4e-3], total_steps=steps, pct_start=0.15)
    average, start = Average(net, 0.98), time.time()
    net.train()
    net.encoder.eval()  # no drop-connect: it is there to slow overfitting, and no picture comes often
    order, losses = np.concatenate([rng.permutation(len(x)) for _ in range(1 + steps * BATCH // len(x))]), []
    for ix in order[: steps * BATCH].reshape(steps, BATCH):
        with torch.no_grad():
            early = net.encoder.early(relight(to_input(x[ix]), rng))
        loss = mask_loss(net.decode(*early, *net.encoder.late(early[1])), torch.from_numpy(m[ix]))
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder + decoder, 2.0)
        opt.step()
        sched.step()
        average.update()
        losses.append(loss.item())
        if len(losses) % 25 == 0:
            print(f"unet step {len(losses)}/{steps} loss {np.mean(losses[-25:]):.3f} {time.time() - start:.0f} s", flush=True)
    net.load_state_dict(average.state)
    net.eval()
    print("unet val:", *[f"{k} {v:.3f}" for k, v in zip(MASK_LABELS, dice(net, val))], flush=True)
    return net


@torch.no_grad()
def dice(net, data):
    """Mean Dice of the pictures of each class."""
    x, m, y = data
    found = [[] for _ in LABELS]
    for i in range(0, len(x), 32):
        p = (net(to_input(x[i : i + 32])).sigmoid() > 0.5).numpy()
        for pp, mm, yy in zip(p, m[i : i + 32], y[i : i + 32]):
            if yy:
                t = mm == yy
                found[yy].append(2 * (pp[yy - 1] & t).sum() / max(1, pp[yy - 1].sum() + t.sum()))
    return [np.mean(f) for f in found[1:]]


@torch.no_grad()
def features(encoder, x, rng=None):
    out = []
    for i in range(0, len(x), 32):
        b = to_input(x[i : i + 32])
        b = relight(b, rng) if rng else b
        out.append(encoder.late(encoder.early(b)[1])[1].half().contiguous(memory_format=torch.channels_last))
    return torch.cat(out)


def train_classifier(encoder, data, val, steps):
    """The tail alone learns, on features of one relit view of each picture, computed once."""
    x, _, y = data
    rng = np.random.RandomState(1)
    views, start = features(encoder, x, rng), time.time()
    y, fv = torch.from_numpy(y), features(encoder, val[0])
    print(f"features after {time.time() - start:.0f} s", flush=True)
    tail = Tail().to(memory_format=torch.channels_last)
    opt = torch.optim.AdamW(tail.parameters(), weight_decay=2e-2)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-3, total_steps=steps, pct_start=0.15)
    average, losses = Average(tail, 0.96), []
    order = np.concatenate([rng.permutation(len(views)) for _ in range(1 + steps * 64 // len(views))])
    tail.train()
    for ix in order[: steps * 64].reshape(steps, 64):
        loss = F.cross_entropy(tail(views[ix].float().contiguous(memory_format=torch.channels_last)), y[ix], label_smoothing=0.02)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        average.update()
        losses.append(loss.item())
        if len(losses) % 20 == 0:
            print(f"classifier step {len(losses)}/{steps} loss {np.mean(losses[-25:]):.3f} {time.time() - start:.0f} s", flush=True)
    tail.load_state_dict(average.state)
    tail.eval()
    with torch.no_grad():
        right = (tail(fv.float()).argmax(1).numpy() == val[2]).mean()
    print(f"classifier val {right:.4f}", flush=True)
    return tail


if __name__ == "__main__":
    a = argparse.ArgumentParser()
    a.add_argument("sets")
    a.add_argument("out")
    a.add_argument("--unet-steps", type=int, default=600)
    a.add_argument("--tail-steps", type=int, default=170)
    a.add_argument("--threads", type=int, default=1)
    a = a.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(a.threads)
    data, val = load(os.path.join(a.sets, "train"), jitter=True), load(os.path.join(a.sets, "val"))
    print(len(data[0]), "pictures to learn from", flush=True)
    unet = UNet()
    print("GMAC:", macs(unet, SIZE) / 1e9, macs(Classifier(unet.encoder, Tail()), SIZE) / 1e9)
    path = os.path.join(a.out, "unet.pt")
    if os.path.exists(path):
        print("taking", path, "as it is", flush=True)
        unet.load_state_dict(torch.load(path))
        unet.eval()
    else:
        unet = train_unet(data, val, a.unet_steps)
        torch.save(unet.state_dict(), path)
    tail = train_classifier(unet.encoder, data, val, a.tail_steps)
    torch.save(tail.state_dict(), os.path.join(a.out, "tail.pt"))
