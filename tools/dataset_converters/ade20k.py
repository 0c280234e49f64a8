"""ADE20K of the Scene Parsing Challenge 2016, 150 classes: ``data/ade/ADEChallengeData2016``.

Labels stay as they are: 0 is what is no class, and mmseg's ``reduce_zero_label`` drops it.

Usage: ``python tools/dataset_converters/ade20k.py ADEChallengeData2016.zip [--data DIR]``
"""

from conversion.command import run
from conversion.dataset import Dataset, Split

ARCHIVE = 'ADEChallengeData2016.zip'
DATASET = Dataset(
    title='ADE20K',
    folder='ade/ADEChallengeData2016',
    site='the MIT Scene Parsing Benchmark (sceneparsing.csail.mit.edu)',
    archives={ARCHIVE: '7328b3957e407ddae1d3cbf487f149ef'},
    members=(
        (r'images/(training|validation)/([^/]+\.jpg)', r'images/\1/\2'),
        (r'annotations/(training|validation)/([^/]+\.png)', r'annotations/\1/\2'),
        (r'(objectInfo150|sceneCategories)\.txt', r'\1.txt'),
    ),
    splits=(
        Split('training', 'images/training', 'annotations/training', 20210, ARCHIVE),
        Split('validation', 'images/validation', 'annotations/validation', 2000, ARCHIVE),
    ),
)

if __name__ == '__main__':
    run(DATASET)
