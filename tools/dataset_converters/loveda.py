"""LoveDA, 7 classes of rural and urban land cover: ``data/loveDA``.

Labels stay as they are: 0 is no data, and mmseg's ``reduce_zero_label`` drops it.

Usage: ``python tools/dataset_converters/loveda.py Train.zip Val.zip [Test.zip]``
"""

from conversion.command import run
from conversion.dataset import Dataset, Split

DATASET = Dataset(
    title='LoveDA',
    folder='loveDA',
    site='zenodo.org/record/5706578',
    archives={
        'Train.zip': 'de2b196043ed9b4af1690b3f9a7d558f',
        'Val.zip': '84cae2577468ff0b5386758bb386d31d',
        'Test.zip': 'a489be0090465e01fb067795d24e6b47',
    },
    members=tuple(
        (rf'{name}/(?:Rural|Urban)/{kind}_png/([^/]+\.png)', rf'{folder}/{name.lower()}/\1')
        for name in ('Train', 'Val', 'Test')
        for kind, folder in (('images', 'img_dir'), ('masks', 'ann_dir'))
    ),
    splits=(
        Split('train', 'img_dir/train', 'ann_dir/train', 2522, 'Train.zip', '.png'),
        Split('val', 'img_dir/val', 'ann_dir/val', 1669, 'Val.zip', '.png'),
        Split('test', 'img_dir/test', None, 1796, 'Test.zip', '.png', optional=True),
    ),
)

if __name__ == '__main__':
    run(DATASET)
