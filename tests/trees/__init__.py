"""Tiny data sets in the layouts of the benchmarks, one file for each group of them."""

from tests.coco import write_coco
from tests.trees import depth, driving, pascal, scenes

# By the folder of the leaf configs: what writes the data below a root.
TREES = {
    'ade20k': scenes.write_ade20k,
    'cityscapes': driving.write_cityscapes,
    'coco': lambda root: write_coco(root / 'coco'),
    'cocostuff164k': scenes.write_coco_stuff,
    'context59': pascal.write_context,
    'gta': driving.write_gta,
    'loveda': scenes.write_loveda,
    'nyu': depth.write_nyu,
    'potsdam': scenes.write_potsdam,
    'voc': pascal.write_detection,
    'vocaug': pascal.write_aug,
}
FOLDERS = set(TREES)
