"""Every dataset converter on tiny archives: whole, interrupted, damaged, incomplete."""

import os
import runpy
import sys
import time

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from tests.fixtures import ROOT, hashes
from tests.processes import Process
from tests.tools.dataset_converters.archives import image, label, write
from tests.tools.dataset_converters.downloads import DOWNLOADS

TOOLS = ROOT / 'tools/dataset_converters'
OTHERS = {'brain_slices'}  # it brings its own data


def run(name, *arguments):
    """Run a tool in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(TOOLS / f'{name}.py'), run_name='__main__')
    if isinstance(stop.value.code, str):  # which Python prints, and ends with 1
        print(stop.value.code, file=sys.stderr)
        return 1
    return stop.value.code or 0


def prepare(name, sources, data, *more):
    return run(name, *sources, '--data', data, '--partial', '--workers', 1, *more)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()}


@pytest.fixture(params=DOWNLOADS)
def name(request):
    return request.param


@pytest.fixture
def sources(name, tmp_path):
    return write(DOWNLOADS[name].archives(), tmp_path / 'downloads')


def test_every_tool_is_tested():
    assert {path.stem for path in TOOLS.glob('*.py')} == OTHERS | DOWNLOADS.keys()


def test_upstream_reads_what_was_prepared(name, sources, tmp_path):
    data = tmp_path / 'data'
    assert prepare(name, sources, data) == 0
    for config, count in DOWNLOADS[name].datasets:
        config = {**config, 'data_root': str(data / config['data_root'])}
        pipeline = [] if 'mmdet' in config['type'] else [dict(type='LoadImageFromFile')]
        if config['type'] == 'mmseg.NYUDataset':
            pipeline.append(dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3))
        elif pipeline:
            pipeline.append(dict(type='LoadAnnotations'))
        with DATASETS.switch_scope_and_registry(config['type'].split('.')[0]):
            dataset = DATASETS.build({**config, 'pipeline': pipeline})
        assert len(dataset) == count, config
        for i in range(count):
            sample = dataset[i]
            assert os.path.exists(sample['img_path'])
            assert os.path.exists(sample.get('seg_map_path') or sample['img_path'])
            if 'gt_seg_map' in sample:
                assert sample['gt_seg_map'].shape == sample['img'].shape[:2]
                values = np.unique(sample['gt_seg_map'])
                assert set(values) <= {*range(len(dataset.metainfo['classes'])), 255}
                assert set(values) != {255}
            if 'gt_depth_map' in sample:
                assert np.allclose(sample['gt_depth_map'], 2.5)
    for path, values in DOWNLOADS[name].labels.items():
        assert np.unique(np.asarray(Image.open(data / path))).tolist() == values, path


def test_nothing_is_written_twice(name, sources, tmp_path):
    data = tmp_path / 'data'
    assert prepare(name, sources, data) == 0
    lists = {'train.txt', 'val.txt', 'aug.txt', 'trainaug.txt'}
    before = {path: time for path, time in times(data).items() if path.name not in lists}
    assert prepare(name, sources, data) == 0
    after = times(data)
    put_aside = data / 'gta/damaged'
    assert all(after[p] == t for p, t in before.items() if put_aside not in p.parents)
    assert {path for path in after if path.name not in lists} == before.keys()


@pytest.mark.parametrize('share', [0.0, 0.5, 0.95])
def test_an_interrupted_run_goes_on(name, share, sources, tmp_path, monkeypatch, capsys):
    clean, data = tmp_path / 'clean', tmp_path / 'data'
    replace, calls = os.replace, []
    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', lambda *a: calls.append(a) or replace(*a))
        assert prepare(name, sources, clean) == 0
    last = int(share * len(calls))
    calls.clear()

    def stop(*paths):
        calls.append(paths)
        if len(calls) > last:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', stop)
        assert prepare(name, sources, data) == 130
    assert 'The same command goes on from here' in capsys.readouterr().err
    assert not list(data.rglob('*.part'))
    before = times(data)
    assert hashes(data) != hashes(clean)
    assert prepare(name, sources, data) == 0
    after = times(data)
    again = {'train.txt', 'val.txt', '00005.png'}  # lists, and what GTAV puts aside
    assert all(after.get(p, t) == t for p, t in before.items() if p.name not in again)
    assert hashes(data) == hashes(clean)


def test_parts_of_a_data_set_are_told(name, sources, tmp_path, capsys):
    module = runpy.run_path(str(TOOLS / f'{name}.py'))
    archives = module['DATASET'].archives
    if not any(archives.values()):  # sums differ before counts do
        assert run(name, *sources, '--data', tmp_path / 'data', '--workers', 1) == 1
        error = capsys.readouterr().err
        for split in module['DATASET'].splits:
            if split.number and not split.optional:
                assert f' of {split.number:,} images in ' in error
        assert 'Where less is meant, use --partial.' in error
    else:
        assert run(name, *sources, '--data', tmp_path / 'data') == 1
        assert 'has the MD5 sum' in capsys.readouterr().err
        assert not (tmp_path / 'data').exists()


def test_a_missing_file_is_named(name, tmp_path, capsys):
    archives = DOWNLOADS[name].archives()
    archive, member = DOWNLOADS[name].needed
    archives[archive] = {k: v for k, v in archives[archive].items() if member not in k}
    sources = write(archives, tmp_path / 'less')
    assert prepare(name, sources, tmp_path / 'data') == 1
    error = capsys.readouterr().err
    stem = member.rpartition('/')[2].split('.')[0]
    for suffix in ('_leftImg8bit', 'top_potsdam_', '_label_noBoundary', 'rgb_'):
        stem = stem.replace(suffix, '')
    assert stem in error, error
    sources = write(DOWNLOADS[name].archives(), tmp_path / 'all')
    assert prepare(name, sources, tmp_path / 'data') == 0


def test_wrong_archives(name, tmp_path, capsys):
    module = runpy.run_path(str(TOOLS / f'{name}.py'))
    title, site = module['DATASET'].title, module['DATASET'].site
    other = write({'other.zip': {'flowers/rose.bmp': b'x'}}, tmp_path)[0]
    none = tmp_path / 'none.zip'
    for path, message in (
        (other, f'{other} has no'),
        (none, f'There is no {none}'),
        (tmp_path, f'{tmp_path} holds none of'),
    ):
        assert prepare(name, [path], tmp_path / 'data') == 1
        error = capsys.readouterr().err
        assert message in error
        assert site in error
    assert prepare(name, [], tmp_path / 'data') == 1
    error = capsys.readouterr().err
    assert 'No archive is given' in error or f'{title} in' in error


def test_archives_that_are_cut_off(name, sources, tmp_path, capsys):
    path = sources[0]
    whole = path.read_bytes()
    left = len(whole) // 4  # tar archives this small are mostly padding
    path.write_bytes(whole[:left])
    assert prepare(name, sources, tmp_path / 'data') == 1
    assert f'{path} ({left:,} bytes) cannot be read' in capsys.readouterr().err
    path.write_bytes(whole)
    assert prepare(name, sources, tmp_path / 'data') == 0


def test_a_folder_of_archives(tmp_path):
    archives = DOWNLOADS['gta'].archives()
    write({**archives, 'holiday.zip': {'images/00009.png': b'not ours'}}, tmp_path / 'downloads')
    assert prepare('gta', [tmp_path / 'downloads'], tmp_path / 'data') == 0
    assert not (tmp_path / 'data/gta/images/00009.png').exists()


def test_unpacked_data_need_no_archive(tmp_path):
    root = tmp_path / 'data/cityscapes'
    for split in ('train', 'val'):
        for folder, suffix, content in (
            ('leftImg8bit', 'leftImg8bit', image(form='PNG')),
            ('gtFine', 'gtFine_labelIds', label(7)),
        ):
            path = root / folder / split / 'bonn' / f'bonn_0_{suffix}.png'
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
    assert prepare('cityscapes', [], tmp_path / 'data') == 0
    assert (root / 'gtFine/val/bonn/bonn_0_gtFine_labelTrainIds.png').exists()


def test_pairs_of_two_sizes_are_put_aside(tmp_path, capsys):
    sources = write(DOWNLOADS['gta'].archives(), tmp_path / 'downloads')
    assert prepare('gta', sources, tmp_path / 'data') == 0
    assert 'all: 4 images, 1 put aside in damaged/images' in capsys.readouterr().out
    root = tmp_path / 'data/gta'
    assert (root / 'damaged/images/00005.png').exists()
    assert not (root / 'images/00005.png').exists()
    assert not (root / 'labels/00005.png').exists()


@pytest.mark.parametrize(
    ('name', 'archive', 'member', 'content', 'words'),
    [
        ('cityscapes', 'gtFine_trainvaltest.zip', 'val/ulm/ulm_000001_000019_gtFine_labelIds',
         label(7, 77), 'has labels [77], which the data set does not define'),
        ('coco_stuff', 'stuffthingmaps_trainval2017.zip', 'train2017/000000000002',
         label(11), 'has labels [11]'),
        ('mapillary', 'An-ZjB1Zm61yAZG0ozTymz8.zip', 'training/v1.2/labels/m2',
         image(form='PNG'), 'not one index for each pixel'),
        ('gta', '01_labels.zip', 'labels/00002', image(form='PNG'),
         'pixels of colours that Cityscapes does not have'),
        ('gta', '01_labels.zip', 'labels/00002', label(7)[:45], 'cannot be read as an image'),
        ('potsdam', '5_Labels_all_noBoundary.zip', 'top_potsdam_2_10', image((20, 20), 'TIFF'),
         'pixels of colours that are no class'),
        ('voc_aug', 'benchmark.tgz', 'cls/s0', b'not a mat file', 'as labels of SBD'),
        ('pascal_context', 'trainval_merged.json', '', b'{"images": 3',
         'is not the annotation file of PASCAL in Detail'),
        ('nyu', 'nyu.zip', 'nyu_test.txt', b'', 'there is no image'),
    ],
)  # fmt: skip
def test_damaged_labels(name, archive, member, content, words, tmp_path, capsys):
    archives = DOWNLOADS[name].archives()
    members = archives[archive]
    if isinstance(members, bytes):
        archives[archive] = content
    else:
        archives[archive] = {k: content if member in k else v for k, v in members.items()}
        assert archives[archive] != members
    sources = write(archives, tmp_path / 'downloads')
    status = prepare(name, sources, tmp_path / 'data')
    if name == 'nyu':  # an empty list is a part like any other
        assert status == 0
        return
    assert status == 1
    assert words in capsys.readouterr().err


def test_links_to_the_images_of_coco(tmp_path):
    archives = DOWNLOADS['coco_stuff'].archives()
    sources = write(archives, tmp_path / 'downloads')
    assert prepare('coco', sources[:2], tmp_path / 'data') == 0
    images = tmp_path / 'data/coco_stuff164k/images'
    images.mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (images / split).symlink_to(tmp_path / 'data/coco' / split)
    assert prepare('coco_stuff', sources[2:], tmp_path / 'data') == 0


def test_a_full_disk_is_told(tmp_path, monkeypatch, capsys):
    sources = write(DOWNLOADS['ade20k'].archives(), tmp_path / 'downloads')

    def full(*paths):
        raise OSError(28, 'No space left on device', str(paths[1]))

    monkeypatch.setattr(os, 'replace', full)
    assert prepare('ade20k', sources, tmp_path / 'data') == 1
    error = capsys.readouterr().err
    assert 'No space left on device' in error
    assert 'The same command goes on from here' in error


def test_a_killed_run_goes_on(tmp_path):
    buffer = label(7)
    members = {
        f'gtFine/{split}/ulm/ulm_{i}_gtFine_labelIds.png': buffer
        for split, count in (('train', 1500), ('val', 1))
        for i in range(count)
    }
    images = {
        member.replace('gtFine/', 'leftImg8bit/').replace('gtFine_labelIds', 'leftImg8bit'): buffer
        for member in members
    }
    archives = {'gtFine_trainvaltest.zip': members, 'leftImg8bit_trainvaltest.zip': images}
    sources = write(archives, tmp_path / 'downloads')
    data = tmp_path / 'data'
    words = [TOOLS / 'cityscapes.py', *sources, '--data', data, '--partial', '--workers', '2']

    def start():
        return Process(words, tmp_path, dict(os.environ), tmp_path / 'said.txt')

    process = start()
    for _ in range(600):
        if list((data / 'cityscapes/gtFine/train/ulm').glob('*_labelTrainIds.png')):
            break
        time.sleep(0.02)
    process.kill()
    before = times(data)
    assert 0 < len(before) < 3 * 1501
    done = start().finish()
    assert done.returncode == 0, done.stdout
    assert 'train: 1,500 images' in done.stdout
    after = times(data)
    assert all(after[p] == t for p, t in before.items() if p.suffix != '.part')
    assert len([p for p in after if p.suffix != '.part']) == 3 * 1501
