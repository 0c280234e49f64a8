"""One ``backbone=`` dict under mmseg and mmdet, and adapters that go from one to the other."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

import mmsigma  # noqa: F401  (registers the names)
from mmsigma.checkpoint import adapter_files
from tests.tiny import same, trunk_config

pytest.importorskip('mmdet')

TUNERS = {
    'sigma': {'type': 'SIGMA', 'bottleneck': 8},
    'mona': {'type': 'mmsigma.Mona', 'bottleneck': 8},
    'full': {'type': 'Full'},
}
TRUNKS = {'dinov2': (32, 14), 'swin': (32, 8)}  # width and stride of the last map


def backbone(trunk, tuner):
    """The very dict that both configs hold."""
    return {
        'type': 'mmsigma.AdaptedBackbone',
        'trunk': trunk_config(trunk),
        'tuner': TUNERS[tuner],
        'out_indices': [-1],
    }


def segmenter(trunk, tuner):
    """An mmseg model, built under its scope."""
    init_default_scope('mmseg')
    model = {
        'type': 'EncoderDecoder',
        'backbone': backbone(trunk, tuner),
        'decode_head': {
            'type': 'FCNHead',
            'in_channels': TRUNKS[trunk][0],
            'in_index': -1,
            'channels': 8,
            'num_classes': 3,
        },
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    }
    return MODELS.build(copy.deepcopy(model))


def detector(trunk, tuner):
    """An mmdet model, built under its scope."""
    init_default_scope('mmdet')
    width, stride = TRUNKS[trunk]
    model = {
        'type': 'RetinaNet',
        'backbone': backbone(trunk, tuner),
        'neck': None,
        'bbox_head': {
            'type': 'RetinaHead',
            'num_classes': 3,
            'in_channels': width,
            'stacked_convs': 1,
            'feat_channels': 8,
            'anchor_generator': {
                'type': 'AnchorGenerator',
                'octave_base_scale': 4,
                'scales_per_octave': 1,
                'ratios': [1.0],
                'strides': [stride],
            },
        },
        'train_cfg': {
            'assigner': {
                'type': 'MaxIoUAssigner',
                'pos_iou_thr': 0.5,
                'neg_iou_thr': 0.4,
                'min_pos_iou': 0,
            },
            'sampler': {'type': 'PseudoSampler'},
            'allowed_border': -1,
            'pos_weight': -1,
            'debug': False,
        },
    }
    return MODELS.build(copy.deepcopy(model))


def samples(kind):
    """One image and its truth, for either framework."""
    from mmdet.structures import DetDataSample
    from mmseg.structures import SegDataSample

    meta = {'img_shape': (56, 56), 'ori_shape': (56, 56), 'pad_shape': (56, 56)}
    image = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    if kind is segmenter:
        label = torch.zeros(1, 56, 56, dtype=torch.long)
        label[:, :28] = 2
        return image, [SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=meta)] * 2
    boxes = InstanceData(bboxes=torch.tensor([[4.0, 4, 40, 44]]), labels=torch.tensor([1]))
    return image, [DetDataSample(gt_instances=boxes, metainfo=meta) for _ in range(2)]


def train(model, kind):
    """Three steps, so that what trains is no longer what it began as."""
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    images, truth = samples(kind)
    for _ in range(3):
        losses = model.train()(images, truth, mode='loss')
        loss, _ = model.parse_losses(losses)
        assert torch.isfinite(loss)
        optimizer.update_params(loss)


@pytest.mark.parametrize('tuner', TUNERS)
@pytest.mark.parametrize('trunk', TRUNKS)
@pytest.mark.parametrize(('source', 'target'), [(segmenter, detector), (detector, segmenter)])
def test_adapters_go_from_one_to_the_other(source, target, trunk, tuner, tmp_path):
    first, second = source(trunk, tuner), target(trunk, tuner)
    assert type(first.backbone) is type(second.backbone)
    assert type(first).__module__.partition('.')[0] != type(second).__module__.partition('.')[0]
    train(first, source)
    images = samples(source)[0]
    maps = first.eval().backbone(images)
    assert not same(maps, second.eval().backbone(images))

    adapter_files.save(first.state_dict(), tmp_path)
    adapter_files.load(second.backbone, tmp_path)
    assert same(maps, second.eval().backbone(images))
    train(second, target)  # and goes on there
    assert not same(maps, second.eval().backbone(images))
