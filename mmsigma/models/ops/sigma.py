"""Triton kernels of what is between Down and Up in a SIGMA adapter.

::

    z (B,P+N,r) ─gate─> a kernel per image ─fuse─> v (B,P+N,r) ─modulate─> 1 + gamma, beta
                                                   └──────────activate──> GELU(v (1 + gamma) + beta)

On a fast GPU the small operators of this part take next to no time, but starting each does: some
sixty forward, over a hundred backward. Here they are four, and six in :mod:`.sigma_grad`. All
arithmetic is float32; what is as large as the tokens is stored in their format, and so are the
factors of the r x r products. Sums over tokens are taken tile by tile and then in a fixed order:
results repeat to the bit.

The same functions in PyTorch: :class:`mmsigma.models.tuners.sigma.ScaleAdaptiveFusion` and
:class:`~mmsigma.models.tuners.sigma.SemanticModulation`.
"""

import triton
import triton.language as tl


@triton.jit
def gelu(x):
    """GELU, the exact one."""
    return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def summed(part, first, tiles, c, C: tl.constexpr):
    """The sum of ``tiles`` rows of ``part`` (·, C), the ``first`` and those after it."""
    total = tl.zeros((C,), tl.float32)
    for start in range(0, tiles, 32):
        t = start + tl.arange(0, 32)
        rows = part + (first + t)[:, None] * C + c[None, :]
        total += tl.sum(tl.load(rows, mask=(t < tiles)[:, None], other=0.0), 0)
    return total


@triton.jit
def gate_logit(w2, b2, h, k, c, g, C: tl.constexpr, G: tl.constexpr):
    """Logits (C,) of scale k from the gate's hidden features."""
    weight = tl.load(w2 + (k * C + c)[:, None] * G + g[None, :], mask=(g < G)[None, :], other=0.0)
    return tl.sum(weight * h[None, :], 1) + tl.load(b2 + k * C + c)


@triton.jit
def taps_of(index, k, t, c, taps):
    """Where ``flat`` has the taps t of the largest kernel of scale k, and whether it has them."""
    own = index + k * (taps + 2)
    local = tl.load(own + t, mask=t < taps, other=-1)
    first, step = tl.load(own + taps), tl.load(own + taps + 1)
    return first + c[None, :] * step + local[:, None], (local >= 0)[:, None]


@triton.jit
def gate(
    z, flat, index, w1, b1, w2, b2, mean, hidden, weights, kernel,
    stride_b, stride_n, prefix, tokens, biases, taps,
    C: tl.constexpr, S: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, TP: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean of the grid, gate, and the kernel that it makes of all scales; a program per image."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    total = tl.zeros((C,), tl.float32)
    for start in range(0, tokens, BLOCK):
        n = start + tl.arange(0, BLOCK)
        rows = z + b * stride_b + (prefix + n)[:, None] * stride_n + c[None, :]
        total += tl.sum(tl.load(rows, mask=(n < tokens)[:, None], other=0.0).to(tl.float32), 0)
    average = total / tokens
    tl.store(mean + b * C + c, average)

    g = tl.arange(0, GP)
    inside = g < G
    first = tl.load(w1 + g[:, None] * C + c[None, :], mask=inside[:, None], other=0.0)
    u = tl.sum(first * average[None, :], 1) + tl.load(b1 + g, mask=inside, other=0.0)
    tl.store(hidden + b * G + g, u, mask=inside)
    h = gelu(u)

    top = tl.full((C,), float('-inf'), tl.float32)
    for k in tl.static_range(S):
        top = tl.maximum(top, gate_logit(w2, b2, h, k, c, g, C, G))
    below = tl.zeros((C,), tl.float32)
    for k in tl.static_range(S):
        below += tl.exp(gate_logit(w2, b2, h, k, c, g, C, G) - top)

    t = tl.arange(0, TP)
    identity = tl.where(t == taps // 2, 1.0, 0.0)
    taken = tl.zeros((TP, C), tl.float32) + identity[:, None]
    bias = tl.zeros((C,), tl.float32)
    for k in tl.static_range(S):
        a = tl.exp(gate_logit(w2, b2, h, k, c, g, C, G) - top) / below
        tl.store(weights + (b * S + k) * C + c, a)
        at, there = taps_of(index, k, t, c, taps)
        taken += a[None, :] * tl.load(flat + at, mask=there, other=0.0)
        bias += a * tl.load(flat + biases + k * C + c)
    place = kernel + b * (taps + 1) * C
    tl.store(place + t[:, None] * C + c[None, :], taken, mask=(t < taps)[:, None])
    tl.store(place + taps * C + c, bias)


@triton.jit
def fuse(
    z, kernel, mix, mix_bias, conv, fused, part,
    stride_b, stride_n, prefix, height, width, tokens, taps, tiles,
    C: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Convolution and channel mixing of a tile; prefix tokens pass. Sums of the grid's rows."""
    b = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    c = tl.arange(0, C)
    t = tile * BLOCK + tl.arange(0, BLOCK)
    n = t - prefix
    grid = (n >= 0) & (n < tokens)
    row = n // width
    column = n % width
    image = z + b * stride_b + prefix * stride_n
    place = kernel + b * (taps + 1) * C
    acc = tl.zeros((BLOCK, C), tl.float32) + tl.load(place + taps * C + c)[None, :]
    for i in range(K):
        y = row + i - K // 2
        valid = grid & (y >= 0) & (y < height)
        for j in tl.static_range(K):
            x = column + j - K // 2
            there = valid & (x >= 0) & (x < width)
            at = image + (y * width + x)[:, None] * stride_n + c[None, :]
            value = tl.load(at, mask=there[:, None], other=0.0).to(tl.float32)
            acc += value * tl.load(place + (i * K + j) * C + c)[None, :]
    half = acc.to(z.dtype.element_ty)
    at = conv + (b * tokens + n)[:, None] * C + c[None, :]
    tl.store(at, half, mask=grid[:, None])
    across = tl.load(mix + c[None, :] * C + c[:, None]).to(z.dtype.element_ty)
    mixed = half.to(tl.float32) + tl.dot(half, across, input_precision='ieee')
    mixed += tl.load(mix_bias + c)[None, :]
    before = tl.load(
        z + b * stride_b + t[:, None] * stride_n + c[None, :],
        mask=(t < prefix)[:, None],
        other=0.0,
    )
    value = tl.where(grid[:, None], mixed.to(z.dtype.element_ty), before)
    whole = prefix + tokens
    tl.store(fused + (b * whole + t)[:, None] * C + c[None, :], value, mask=(t < whole)[:, None])
    rows = tl.where(grid[:, None], value.to(tl.float32), 0.0)
    tl.store(part + (b * tiles + tile) * C + c, tl.sum(rows, 0))


@triton.jit
def modulate(
    part, z, w1, b1, w2, b2, descriptor, hidden, scales,
    stride_b, tokens, tiles,
    C: tl.constexpr, D: tl.constexpr, M: tl.constexpr, MP: tl.constexpr,
):  # fmt: skip
    """``1 + gamma`` and ``beta`` of an image from its mean and, if D is 2 C, its class token."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    m = tl.arange(0, MP)
    inside = m < M
    mean = summed(part, b * tiles, tiles, c, C) / tokens
    tl.store(descriptor + b * D + c, mean)
    at = w1 + m[:, None] * D + c[None, :]
    u = tl.sum(tl.load(at, mask=inside[:, None], other=0.0) * mean[None, :], 1)
    if D > C:
        token = tl.load(z + b * stride_b + c).to(tl.float32)
        tl.store(descriptor + b * D + C + c, token)
        u += tl.sum(tl.load(at + C, mask=inside[:, None], other=0.0) * token[None, :], 1)
    u += tl.load(b1 + m, mask=inside, other=0.0)
    tl.store(hidden + b * M + m, u, mask=inside)
    h = gelu(u)
    at = w2 + c[:, None] * M + m[None, :]
    gamma = tl.sum(tl.load(at, mask=inside[None, :], other=0.0) * h[None, :], 1)
    beta = tl.sum(tl.load(at + C * M, mask=inside[None, :], other=0.0) * h[None, :], 1)
    tl.store(scales + b * 2 * C + c, 1 + gamma + tl.load(b2 + c))
    tl.store(scales + b * 2 * C + C + c, beta + tl.load(b2 + C + c))


@triton.jit
def activate(fused, scales, out, whole, C: tl.constexpr, BLOCK: tl.constexpr):
    """GELU of the modulated tokens of a tile."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    t = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = (b * whole + t)[:, None] * C + c[None, :]
    there = (t < whole)[:, None]
    value = tl.load(fused + at, mask=there, other=0.0).to(tl.float32)
    value = value * tl.load(scales + b * 2 * C + c)[None, :]
    value += tl.load(scales + b * 2 * C + C + c)[None, :]
    tl.store(out + at, gelu(value).to(out.dtype.element_ty), mask=there)
