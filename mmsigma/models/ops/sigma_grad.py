"""Triton kernels of the backward pass of :mod:`mmsigma.models.ops.sigma`."""

import triton
import triton.language as tl

from mmsigma.models.ops.sigma import gelu, summed, taps_of


@triton.jit
def gelu_slope(x):
    """Derivative of :func:`gelu`."""
    return 0.5 * (1 + tl.erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * tl.exp(
        -0.5 * x * x
    )


@triton.jit
def activate_grad(
    grad, fused, scales, d_fused, part, whole, tiles, C: tl.constexpr, BLOCK: tl.constexpr
):
    """Gradients of :func:`activate`: of its tokens, and sums for ``gamma`` and ``beta``."""
    b = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    c = tl.arange(0, C)
    t = tile * BLOCK + tl.arange(0, BLOCK)
    at = (b * whole + t)[:, None] * C + c[None, :]
    there = (t < whole)[:, None]
    value = tl.load(fused + at, mask=there, other=0.0).to(tl.float32)
    scale = tl.load(scales + b * 2 * C + c)[None, :]
    slope = gelu_slope(value * scale + tl.load(scales + b * 2 * C + C + c)[None, :])
    d = tl.load(grad + at, mask=there, other=0.0).to(tl.float32) * slope
    tl.store(d_fused + at, (d * scale).to(d_fused.dtype.element_ty), mask=there)
    place = part + (b * 2 * tiles + tile) * C + c  # (B, 2, tiles, C)
    tl.store(place, tl.sum(d * value, 0))
    tl.store(place + tiles * C, tl.sum(d, 0))


@triton.jit
def modulate_grad(
    part, descriptor, hidden, w1, w2, d_descriptor, packed,
    tokens, tiles, row,
    C: tl.constexpr, D: tl.constexpr, M: tl.constexpr, MP: tl.constexpr,
):  # fmt: skip
    """Gradients of :func:`modulate`, those of its weights for each image: ``w1 b1 w2 b2``."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    m = tl.arange(0, MP)
    inside = m < M
    d_gamma = summed(part, b * 2 * tiles, tiles, c, C)
    d_beta = summed(part, b * 2 * tiles + tiles, tiles, c, C)
    u = tl.load(hidden + b * M + m, mask=inside, other=0.0)
    h = gelu(u)

    at = c[:, None] * M + m[None, :]
    mask = inside[None, :]
    d_h = tl.sum(tl.load(w2 + at, mask=mask, other=0.0) * d_gamma[:, None], 0)
    d_h += tl.sum(tl.load(w2 + C * M + at, mask=mask, other=0.0) * d_beta[:, None], 0)
    d_u = d_h * gelu_slope(u)
    own = packed + b * row
    second = own + M * D + M
    tl.store(second + at, d_gamma[:, None] * h[None, :], mask=mask)
    tl.store(second + C * M + at, d_beta[:, None] * h[None, :], mask=mask)
    tl.store(second + 2 * C * M + c, d_gamma)
    tl.store(second + 2 * C * M + C + c, d_beta)

    at = m[:, None] * D + c[None, :]
    mask = inside[:, None]
    mean = tl.load(descriptor + b * D + c)
    tl.store(own + at, d_u[:, None] * mean[None, :], mask=mask)
    d_mean = tl.sum(tl.load(w1 + at, mask=mask, other=0.0) * d_u[:, None], 0)
    tl.store(d_descriptor + b * D + c, d_mean / tokens)
    if D > C:
        token = tl.load(descriptor + b * D + C + c)
        tl.store(own + C + at, d_u[:, None] * token[None, :], mask=mask)
        d_token = tl.sum(tl.load(w1 + C + at, mask=mask, other=0.0) * d_u[:, None], 0)
        tl.store(d_descriptor + b * D + C + c, d_token)
    tl.store(own + M * D + m, d_u, mask=inside)


@triton.jit
def mix_grad(
    d_fused, d_descriptor, conv, mix, dz, d_conv, part,
    prefix, tokens, tiles,
    C: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the mixing: of its input, of prefix tokens, and sums for weight and bias."""
    b = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    c = tl.arange(0, C)
    t = tile * BLOCK + tl.arange(0, BLOCK)
    n = t - prefix
    whole = prefix + tokens
    grid = (n >= 0) & (n < tokens)
    at = (b * whole + t)[:, None] * C + c[None, :]
    d = tl.load(d_fused + at, mask=(t < whole)[:, None], other=0.0).to(tl.float32)
    if D > C:
        d_token = tl.load(d_descriptor + b * D + C + c)
        before = d + tl.where((t == 0)[:, None], d_token[None, :], 0.0)
    else:
        before = d
    tl.store(dz + at, before.to(dz.dtype.element_ty), mask=(t < prefix)[:, None])

    d += tl.load(d_descriptor + b * D + c)[None, :]
    d = tl.where(grid[:, None], d, 0.0)
    half = d.to(conv.dtype.element_ty)
    across = tl.load(mix + c[:, None] * C + c[None, :]).to(conv.dtype.element_ty)
    at = (b * tokens + n)[:, None] * C + c[None, :]
    found = d + tl.dot(half, across, input_precision='ieee')
    tl.store(d_conv + at, found.to(d_conv.dtype.element_ty), mask=grid[:, None])
    value = tl.load(conv + at, mask=grid[:, None], other=0.0)
    place = part + (b * tiles + tile) * (C + 1) * C
    outer = tl.dot(tl.trans(half), value, input_precision='ieee')
    tl.store(place + c[:, None] * C + c[None, :], outer)
    tl.store(place + C * C + c, tl.sum(d, 0))


@triton.jit
def image_grad(
    d_conv, kernel, dz, prefix, height, width, tokens, taps,
    C: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of the grid that the convolution read: with the same kernel, turned around."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    grid = n < tokens
    row = n // width
    column = n % width
    arriving = d_conv + b * tokens * C
    acc = tl.zeros((BLOCK, C), tl.float32)
    for i in range(K):
        y = row + i - K // 2
        valid = grid & (y >= 0) & (y < height)
        for j in tl.static_range(K):
            x = column + j - K // 2
            there = (valid & (x >= 0) & (x < width))[:, None]
            at = arriving + (y * width + x)[:, None] * C + c[None, :]
            opposite = taps - 1 - (i * K + j)
            weight = tl.load(kernel + (b * (taps + 1) + opposite) * C + c)
            acc += tl.load(at, mask=there, other=0.0).to(tl.float32) * weight[None, :]
    at = dz + (b * (prefix + tokens) + prefix + n)[:, None] * C + c[None, :]
    tl.store(at, acc.to(dz.dtype.element_ty), mask=grid[:, None])


@triton.jit
def kernel_grad(
    d_conv, z, part, stride_b, stride_n, prefix, height, width, tokens, taps, chunks, chunk,
    C: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of tokens for the gradients of one row of the kernel, and of its bias."""
    b = (tl.program_id(0) // K).to(tl.int64)
    i = tl.program_id(0) % K
    number = tl.program_id(1)
    c = tl.arange(0, C)
    j = tl.arange(0, KP)
    image = z + b * stride_b + prefix * stride_n
    acc = tl.zeros((KP, BLOCK, C), tl.float32)
    total = tl.zeros((BLOCK, C), tl.float32)
    for start in range(number * chunk, number * chunk + chunk, BLOCK):
        n = start + tl.arange(0, BLOCK)
        grid = n < tokens
        at = d_conv + (b * tokens + n)[:, None] * C + c[None, :]
        d = tl.load(at, mask=grid[:, None], other=0.0).to(tl.float32)
        total += d
        y = n // width + i - K // 2
        valid = grid & (y >= 0) & (y < height)
        x = (n % width)[None, :] + (j - K // 2)[:, None]
        there = valid[None, :] & (x >= 0) & (x < width) & (j < K)[:, None]
        at = image + ((y * width)[None, :] + x)[:, :, None] * stride_n + c[None, None, :]
        value = tl.load(at, mask=there[:, :, None], other=0.0).to(tl.float32)
        acc += value * d[None, :, :]
    place = part + (b * chunks + number) * (taps + 1) * C
    at = place + (i * K + j)[:, None] * C + c[None, :]
    tl.store(at, tl.sum(acc, 1), mask=(j < K)[:, None])
    if i == 0:
        tl.store(place + taps * C + c, tl.sum(total, 0))


@triton.jit
def gate_grad(
    part, flat, index, mean, hidden, weights, w1, w2, d_mean, packed,
    tokens, count, biases, taps, tiles, row, offset,
    C: tl.constexpr, S: tl.constexpr, G: tl.constexpr, GP: tl.constexpr, TP: tl.constexpr,
):  # fmt: skip
    """Gradients of :func:`gate`, those of its weights for each image: ``flat w1 b1 w2 b2``."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, C)
    t = tl.arange(0, TP)
    inner = (t < taps)[:, None]
    d_kernel = tl.zeros((TP, C), tl.float32)
    d_bias = tl.zeros((C,), tl.float32)
    for tile in range(0, tiles):
        place = part + (b * tiles + tile) * (taps + 1) * C
        d_kernel += tl.load(place + t[:, None] * C + c[None, :], mask=inner, other=0.0)
        d_bias += tl.load(place + taps * C + c)

    own = packed + b * row + offset
    common = tl.zeros((C,), tl.float32)  # sum over the scales of a * da
    for k in tl.static_range(S):
        a = tl.load(weights + (b * S + k) * C + c)
        at, there = taps_of(index, k, t, c, taps)
        bias = biases + k * C + c
        tl.store(own + at, a[None, :] * d_kernel, mask=there)
        tl.store(own + bias, a * d_bias)
        da = tl.sum(tl.load(flat + at, mask=there, other=0.0) * d_kernel, 0)
        common += a * (da + tl.load(flat + bias) * d_bias)

    own += count
    second = own + G * C + G
    g = tl.arange(0, GP)
    inside = g < G
    u = tl.load(hidden + b * G + g, mask=inside, other=0.0)
    h = gelu(u)
    d_h = tl.zeros((GP,), tl.float32)
    for k in tl.static_range(S):
        a = tl.load(weights + (b * S + k) * C + c)
        at, there = taps_of(index, k, t, c, taps)
        da = tl.sum(tl.load(flat + at, mask=there, other=0.0) * d_kernel, 0)
        da += tl.load(flat + biases + k * C + c) * d_bias
        d_logit = a * (da - common)
        places = (k * C + c)[:, None] * G + g[None, :]
        tl.store(second + places, d_logit[:, None] * h[None, :], mask=inside[None, :])
        tl.store(second + S * C * G + k * C + c, d_logit)
        weight = tl.load(w2 + places, mask=inside[None, :], other=0.0)
        d_h += tl.sum(weight * d_logit[:, None], 0)
    d_u = d_h * gelu_slope(u)
    average = tl.load(mean + b * C + c)
    places = g[:, None] * C + c[None, :]
    tl.store(own + places, d_u[:, None] * average[None, :], mask=inside[:, None])
    tl.store(own + G * C + g, d_u, mask=inside)
    first = tl.load(w1 + places, mask=inside[:, None], other=0.0)
    tl.store(d_mean + b * C + c, tl.sum(first * d_u[:, None], 0) / tokens)
