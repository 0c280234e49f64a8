"""Print the table of trunks, or write it: ``python tools/trunks.py [--write docs/trunks.md]``."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from mmsigma.engine import launch
from mmsigma.experiments.pages import put

CONFIGS = Path(__file__).parent.parent / 'configs/_base_/trunks'
HEADER = (
    '| config | model | family | parameters | width | blocks | patch | native input | SIGMA | '
    'weights |\n|---|---|---|--:|--:|--:|--:|--:|--:|---|'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='What every trunk config is. Needs no weights.')
    parser.add_argument('--write', metavar='page', type=Path, help='put the table into this page')
    return parser.parse_args()


def row(path: Path) -> str:
    """The line of one trunk config, in Markdown, from building it without weights."""
    from mmengine.config import Config

    from mmsigma.apis.params import of_trunk

    config = Config.fromfile(path)
    backbone = of_trunk(config)
    trunk, blocks = backbone.trunk, backbone.trunk.blocks()
    own = sum(p.numel() for p in trunk.parameters())
    share = sum(p.numel() for p in backbone.adapters.parameters()) / own
    widths = list(dict.fromkeys(block.width for block in blocks))
    release = config.release
    about = path.read_text().splitlines()[0].removeprefix('# ').split(' through ')[0].rstrip('.')
    cells = (
        f'`{path.stem}`',
        about,
        config.trunk.type,
        f'{own / 1e6:,.1f} M',
        '/'.join(map(str, widths)),
        str(len(blocks)),
        str(trunk.patch),
        str(release.input_size),
        f'{100 * share:.2f} %',
        f'[{release.licence}]({release.source})',
    )
    return f'| {" | ".join(cells)} |'


def table(paths: Iterable[Path]) -> str:
    """The table of these trunk configs, in Markdown."""
    return '\n'.join([HEADER, *map(row, paths)])


def main() -> None:
    args = parse_args()
    found = table(sorted(CONFIGS.glob('*.py')))
    if args.write is None:
        print(found)
        return
    put(args.write, 'tools/trunks.py', found)


if __name__ == '__main__':
    launch.run(main)
