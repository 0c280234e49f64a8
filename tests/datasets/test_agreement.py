"""Configs whose parts mean different things by a label are refused before anything is built."""

import pytest

from mmsigma.datasets.agreement import check_agreement, disagreements, head_sizes
from mmsigma.errors import DataError

CLASSES = ('sky', 'road', 'car')


def config(head=None, metric=None, steps=(), model=None, **dataset):
    """A config of mmseg with one dataset for all."""
    load = dict(type='LoadAnnotations')
    loader = dict(
        dataset=dict(
            type='BaseSegDataset',
            data_root='data',
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            metainfo=dict(classes=CLASSES),
            pipeline=[load, *steps],
        )
        | dataset
    )
    return dict(
        default_scope='mmseg',
        model=dict(decode_head=dict(type='FCNHead', num_classes=3) | (head or {})) | (model or {}),
        **{f'{split}_dataloader': loader for split in ('train', 'val', 'test')},
        **{
            f'{split}_evaluator': [dict(type='IoUMetric') | (metric or {})]
            for split in ('val', 'test')
        },
    )


LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
SIGMOID = dict(type='CrossEntropyLoss', use_sigmoid=True)
PAD = dict(type='Pad', size=(8, 8))


@pytest.mark.parametrize(
    'given',
    [
        config(),
        config(dict(ignore_index=0), dict(ignore_index=0)),  # of the dataset's, nobody said 255
        config(dict(ignore_index=254), dict(ignore_index=254), ignore_index=254),
        config(dict(loss_decode=dict(type='CrossEntropyLoss'))),
        config(dict(loss_decode=[dict(type='DiceLoss'), dict(type='LovaszLoss')])),
        config(steps=[PAD, dict(type='RandomRotate', prob=1, degree=9)]),
        # Without padding, the value that would be padded with does not matter.
        config(
            dict(ignore_index=0),
            dict(ignore_index=0),
            model=dict(data_preprocessor=dict(seg_pad_val=255, size_divisor=1)),
        ),
        config(type='ADE20KDataset', metainfo={}),
        config(dict(out_channels=1, num_classes=2, loss_decode=SIGMOID)),
        {},
        dict(train_dataloader=None),
    ],
)  # fmt: skip
def test_what_agrees_passes(given):
    for name in LOADERS:
        assert list(disagreements(given, name)) == []


@pytest.mark.parametrize(
    ('given', 'loader', 'words'),
    [
        (config(ignore_index=254), 0, ['head.ignore_index is 255', 'dataset.ignore_index is 254']),
        (config(dict(ignore_index=254)), 1, ['head.ignore_index is 254', '0.ignore_index is 255']),
        (config(metric=dict(ignore_index=0)), 2, ['test_evaluator.0.ignore_index is 0']),
        (
            config(dict(ignore_index=0, loss_decode=dict(type='DiceLoss'))), 0,
            ['decode_head.ignore_index is 0', 'decode_head.loss_decode.ignore_index is 255'],
        ),
        (
            config(dict(loss_decode=[dict(type='OhemCrossEntropy', ignore_label=1)])), 0,
            ['decode_head.loss_decode.0.ignore_label is 1'],
        ),
        (
            config(model=dict(auxiliary_head=[dict(type='FCNHead', ignore_index=9)])), 0,
            ['auxiliary_head.0.ignore_index is 9'],
        ),
        (config(dict(ignore_index=0), steps=[PAD]), 0, ['Pad of the pipeline pads with is 255']),
        (
            config(steps=[dict(type='RandomRotate', prob=1, degree=9, seg_pad_val=0)]), 0,
            ['RandomRotate of the pipeline pads with is 0'],
        ),
        (
            config(
                dict(ignore_index=0),
                model=dict(data_preprocessor=dict(seg_pad_val=255, size=(8, 8))),
            ), 0,
            ['data_preprocessor.seg_pad_val is 255'],
        ),
        (
            config(dict(ignore_index=0), dict(ignore_index=0), reduce_zero_label=True), 1,
            ['reduce_zero_label of val_dataloader.dataset writes is 255'],
        ),
        (
            config(
                dict(ignore_index=9), dict(ignore_index=9),
                type='CityscapesDataset', metainfo=dict(classes=('road', 'car')),
            ), 0,
            ['classes that it leaves out is 255'],
        ),
    ],
)  # fmt: skip
def test_labels_to_ignore(given, loader, words):
    texts = list(disagreements(given, LOADERS[loader]))
    assert len(texts) == 1
    for word in (LOADERS[loader], *words, 'Set all of them'):
        assert word in texts[0], word


def test_zero_label_of_the_loader():
    given = config(reduce_zero_label=True)
    given['train_dataloader']['dataset']['pipeline'][0]['reduce_zero_label'] = False
    with pytest.raises(DataError, match=r'is False in LoadAnnotations .* True in the dataset'):
        check_agreement(given, 'train_dataloader')


@pytest.mark.parametrize('key', ['out_channels', 'num_classes'])
def test_a_softmax_over_one_channel(key):
    (text,) = disagreements(config({'num_classes': 2, key: 1}), 'train_dataloader')
    assert 'decode_head has one channel' in text and 'use_sigmoid=True' in text


def test_one_channel_for_three_classes():
    (text,) = disagreements(config(dict(out_channels=1, loss_decode=SIGMOID)), 'train_dataloader')
    assert 'one channel for 3 classes' in text


def test_images_without_labels():
    images = dict(img_path='images')
    given = config(data_prefix=images)
    (text,) = disagreements(given, 'test_dataloader')
    for word in (
        "test_dataloader: the dataset has images alone", "{'img_path': 'images'}",
        'LoadAnnotations of its pipeline and IoUMetric of test_evaluator.0 need labels',
        'data_prefix.seg_map_path', "test_evaluator=dict(type='IoUMetric', format_only=True",
    ):  # fmt: skip
        assert word in text, word
    (text,) = disagreements(given, 'train_dataloader')
    assert 'format_only' not in text
    given = config(data_prefix=images, pipeline=[], metric=dict(format_only=True))
    assert not list(disagreements(given, 'test_dataloader'))


def test_classes_in_another_order():
    given = config()
    inner = given['val_dataloader']['dataset']
    given['val_dataloader'] = dict(dataset={**inner, 'metainfo': dict(classes=CLASSES[::-1])})
    (text,) = disagreements(given, 'val_dataloader')
    assert '2 classes have another label' in text and 'car is 2 there, 0 here' in text


@pytest.mark.parametrize(
    ('head', 'scope', 'sizes'),
    [
        (dict(type='MaskFormerHead'), 'mmseg', {'head (MaskFormerHead, by default)': 150}),
        (dict(type='MaskFormerHead', num_classes=3), 'mmseg', {'head': 3}),
        (dict(type='FCNHead'), 'mmseg', {}),  # has no default
        (dict(type='FCNMaskHead'), 'mmdet', {'head (FCNMaskHead, by default)': 80}),
        (dict(type='PanopticFPNHead'), 'mmdet', {'head (PanopticFPNHead, by default)': 133}),
        (dict(type='NoSuchHead'), 'mmseg', {}),
    ],
)
def test_heads_that_do_not_say_their_classes(head, scope, sizes):
    assert dict(head_sizes(dict(head=head), scope)) == sizes
